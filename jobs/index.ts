import type { JobName } from "../db/queue.ts";
import { connect, disconnect, publish } from "./accounts.ts";
import { compare as compareAgent, sweep as sweepAgents } from "./agents.ts";
import { backfill, fetchRecording, sweep as sweepArtifacts } from "./artifacts.ts";
import { eraseCopies, eraseUpstream, finalise, hangUp, hangUpOrphan, refresh, sweep } from "./calls.ts";
import { deliver } from "./deliveries.ts";
import { apply, applyBatch } from "./ingress.ts";
import { reprocess } from "./ingress-reprocess.ts";
import { resolve, sweep as sweepIntents } from "./intents.ts";
import { expire as expireKnowledge, forget, sweep as sweepKnowledge } from "./knowledge.ts";
import { expire, expireDeliveries, keepPartitions } from "./maintenance.ts";
import { replay, sweep as sweepReplays } from "./replays.ts";
import { erase, sweep as sweepRetention } from "./retention.ts";
import type { Task } from "./runtime/task.ts";
import { sweep as sweepTelephony, sync } from "./telephony.ts";
import { clean, remove as removeFiles } from "./uploads.ts";
import { remove } from "./upstream.ts";
import { rewrap } from "./vault.ts";
import { check as checkVoice, clear as clearVoice, sweep as sweepVoices, sync as syncVoice } from "./voices.ts";
import { disable } from "./webhooks.ts";
import { advance, sweep as sweepWorkflows } from "./workflows.ts";

/** The handler of each job. A name of `db/queue.ts` without a handler does not compile. */
export const tasks: { [N in JobName]: Task<N> } = {
  "agents.compare": compareAgent,
  "agents.sweep": sweepAgents,
  "artifacts.backfill": backfill,
  "artifacts.sweep": sweepArtifacts,
  "accounts.connect": connect,
  "accounts.disconnect": disconnect,
  "calls.eraseCopies": eraseCopies,
  "calls.eraseUpstream": eraseUpstream,
  "calls.fetchRecording": fetchRecording,
  "calls.finalise": finalise,
  "calls.hangUp": hangUp,
  "calls.hangUpOrphan": hangUpOrphan,
  "calls.refresh": refresh,
  "calls.sweep": sweep,
  "credentials.publish": publish,
  "deliveries.expire": expireDeliveries,
  "files.remove": removeFiles,
  "idempotency.expire": expire,
  "ingress.apply": apply,
  "ingress.applyBatch": applyBatch,
  "ingress.reprocess": reprocess,
  "intents.resolve": resolve,
  "intents.sweep": sweepIntents,
  "knowledge.expire": expireKnowledge,
  "knowledge.forget": forget,
  "knowledge.sweep": sweepKnowledge,
  "partitions.keep": keepPartitions,
  "replays.sweep": sweepReplays,
  "retention.erase": erase,
  "retention.sweep": sweepRetention,
  "uploads.clean": clean,
  "telephony.sweep": sweepTelephony,
  "telephony.sync": sync,
  "upstream.remove": remove,
  "vault.rewrap": rewrap,
  "voices.check": checkVoice,
  "voices.clear": clearVoice,
  "voices.sweep": sweepVoices,
  "voices.sync": syncVoice,
  "webhooks.deliver": deliver,
  "webhooks.disable": disable,
  "webhooks.replay": replay,
  "workflows.advance": advance,
  "workflows.sweep": sweepWorkflows,
};

/** Scheduled jobs, in UTC. The finest step is a minute; more frequent work has a timer in the worker. */
export const crontab = `
* * * * * calls.sweep
*/5 * * * * intents.sweep
*/5 * * * * workflows.sweep
*/5 * * * * voices.sweep
*/5 * * * * knowledge.sweep
*/15 * * * * telephony.sweep
*/10 * * * * vault.rewrap
*/10 * * * * artifacts.sweep
*/10 * * * * agents.sweep
*/5 * * * * replays.sweep
17 * * * * idempotency.expire
23 * * * * retention.sweep
29 * * * * uploads.clean
47 * * * * deliveries.expire
41 3 * * * partitions.keep
`;
