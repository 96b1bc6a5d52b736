import { z } from "zod";

export const poolKinds = ["prompt", "deliveries", "slow"] as const;
export type PoolKind = (typeof poolKinds)[number];

type Job = {
  /** Which rows the job's transactions see: one client's (the client it was queued for), or all. */
  access: "tenant" | "system";
  /**
   * Each kind of pool has its own slots. `prompt`: short work that is wanted now. `deliveries`: it waits for receivers that
   * clients chose. `slow`: everything else, which must not delay the other two.
   */
  pool: PoolKind;
  payload: z.ZodObject;
  /** The pause before each retry, counted from the failure. After the last one the job is a dead letter. */
  retryAfterSeconds: readonly number[];
  /** Among due jobs the lowest runs first. Default: 0. */
  priority?: number;
  /** It waits for a provider: one client's jobs may not take all slots of a prompt pool. */
  callsProvider?: true;
  /** Also runs for a suspended client, so that what a provider has started is settled and no credits stay held. */
  runsWhenSuspended?: true;
};

/** A stored provider message. `receivedAt` is the database's text of it: it names the partition. */
const IngressRef = z.object({
  ingressId: z.string(),
  receivedAt: z.string(),
  /** Of the request that brought the message. */
  requestId: z.string().nullish(),
});

const patient = [1, 5, 15, 60, 300, 900, 3600, 3600, 3600] as const;

/** All jobs: name, payload and policy. `jobs/index.ts` must have a handler for each, or it does not compile. */
export const jobs = {
  /** Applies one message of a provider: one that failed in its batch, or that an operator wants applied again. */
  "ingress.apply": {
    access: "system",
    pool: "prompt",
    payload: IngressRef,
    priority: -10, // bills arrive as webhooks
    retryAfterSeconds: patient,
  },
  /** Applies provider messages that were stored together. One that fails gets its own job. */
  "ingress.applyBatch": {
    access: "system",
    pool: "prompt",
    payload: z.object({ messages: z.array(IngressRef).min(1) }),
    priority: -10,
    retryAfterSeconds: patient,
  },
  /** Settles a provider command whose request did not get a response in time. */
  "intents.resolve": {
    access: "tenant",
    pool: "prompt",
    payload: z.object({ intentId: z.string() }),
    // Credits are held and an agent is busy until it is settled, so no pause is longer than 15 minutes.
    priority: -10,
    callsProvider: true,
    retryAfterSeconds: [1, 5, 15, 60, 300, 900, 900, 900, 900],
    runsWhenSuspended: true,
  },
  /** Finds intents that are open long after their deadline, and queues their job again. */
  "intents.sweep": { access: "system", pool: "slow", payload: z.object({}), retryAfterSeconds: [] },
  /** Finds agents whose copy at the provider was not compared for a day. */
  "agents.sweep": { access: "system", pool: "slow", payload: z.object({}), retryAfterSeconds: [] },
  /** Compares the provider's copy of an agent with ours and corrects it. `resend`: sends ours in any case. */
  "agents.compare": {
    access: "tenant",
    pool: "slow",
    payload: z.object({ agentId: z.string(), resend: z.boolean().default(false) }),
    retryAfterSeconds: [5, 30, 120, 600],
  },
  /** Reads the status of a call from the provider. */
  "calls.refresh": {
    access: "tenant",
    pool: "prompt",
    payload: z.object({
      callId: z.string(),
      /** The provider has reported a refund. It counts once the provider no longer has the call. */
      refundReported: z.boolean().optional(),
    }),
    callsProvider: true,
    retryAfterSeconds: [5, 30, 120, 600],
    runsWhenSuspended: true,
  },
  /** Reads the messages of an ended call and finalises its outcome; stops waiting after five minutes. */
  "calls.finalise": {
    access: "tenant",
    pool: "prompt",
    payload: z.object({ callId: z.string() }),
    callsProvider: true,
    retryAfterSeconds: [2, 5, 10, 30, 60, 90, 120],
    runsWhenSuspended: true,
  },
  /** Copies the recording of an ended call to our storage. The provider may need some minutes to produce it. */
  "calls.fetchRecording": {
    access: "tenant",
    pool: "slow",
    payload: z.object({ callId: z.string() }),
    retryAfterSeconds: [3, 5, 10, 20, 40, 80, 160, 300, 600, 900, 1200],
    runsWhenSuspended: true,
  },
  /** sf-artifacts-backfill: finds ended calls without their transcript or recording. */
  "artifacts.sweep": { access: "system", pool: "slow", payload: z.object({}), retryAfterSeconds: [] },
  /** Starts the backfill of one call. */
  "artifacts.backfill": {
    access: "tenant",
    pool: "slow",
    payload: z.object({ callId: z.string() }),
    retryAfterSeconds: [5, 60],
  },
  /** Finds clients with data past their agents' retention. */
  "retention.sweep": { access: "system", pool: "slow", payload: z.object({}), retryAfterSeconds: [] },
  /** Erases one client's data past its agents' retention. */
  "retention.erase": {
    access: "tenant",
    pool: "slow",
    payload: z.object({}),
    retryAfterSeconds: patient,
    runsWhenSuspended: true,
  },
  /** Hangs up a duplicate at the provider: a second call for the same id. */
  "calls.hangUpOrphan": {
    access: "tenant",
    pool: "prompt",
    payload: z.object({ callId: z.string(), providerAccountId: z.string(), providerCallId: z.string() }),
    priority: -10,
    callsProvider: true,
    retryAfterSeconds: [5, 30, 60, 120, 120, 300],
    runsWhenSuspended: true,
  },
  /** Hangs up a call that was answered. */
  "calls.hangUp": {
    access: "tenant",
    pool: "prompt",
    payload: z.object({ callId: z.string() }),
    priority: -10,
    callsProvider: true,
    retryAfterSeconds: [1, 5, 15, 60, 300],
    runsWhenSuspended: true,
  },
  /** Erases the copies of an erased call: in events, in provider webhooks, in stored responses. */
  "calls.eraseCopies": {
    access: "tenant",
    pool: "slow",
    payload: z.object({ callId: z.string() }),
    retryAfterSeconds: patient,
    runsWhenSuspended: true,
  },
  /** Erases a call at the provider after it was erased here. Queued when its bill is known. */
  "calls.eraseUpstream": {
    access: "tenant",
    pool: "slow",
    payload: z.object({ callId: z.string() }),
    retryAfterSeconds: patient,
    runsWhenSuspended: true,
  },
  /** Finds calls without news from the provider for too long. */
  "calls.sweep": { access: "system", pool: "slow", payload: z.object({}), retryAfterSeconds: [] },
  /** One attempt at each delivery of a batch. Their retries are scheduled in our own rows, not by the queue. */
  "webhooks.deliver": {
    access: "tenant",
    pool: "deliveries",
    payload: z.object({
      deliveries: z.array(z.object({ deliveryId: z.string(), claim: z.number().int() })).min(1),
    }),
    retryAfterSeconds: [1, 5, 15],
  },
  /** Disables an endpoint that is gone or has failed for too long, and emits an event to the client's other endpoints. */
  "webhooks.disable": {
    access: "tenant",
    pool: "prompt",
    payload: z.object({ endpointId: z.string(), why: z.enum(["gone", "failures", "days"]) }),
    retryAfterSeconds: patient,
    runsWhenSuspended: true,
  },
  /** Runs the next batch of a replay, and queues itself for the one after. */
  "webhooks.replay": {
    access: "tenant",
    pool: "slow",
    payload: z.object({ replayId: z.string() }),
    retryAfterSeconds: patient,
  },
  /** Finds running replays without a job. */
  "replays.sweep": { access: "system", pool: "slow", payload: z.object({}), retryAfterSeconds: [] },
  /** Removes deliveries and replays whose retention has ended. */
  "deliveries.expire": { access: "system", pool: "slow", payload: z.object({}), retryAfterSeconds: [] },
  /** Applies again all provider webhooks that match a filter. */
  "ingress.reprocess": {
    access: "system",
    pool: "slow",
    payload: z.object({
      provider: z.string().nullable(),
      eventType: z.string().nullable(),
      statuses: z.array(z.string()).min(1),
      createdAfter: z.iso.datetime(),
      createdBefore: z.iso.datetime(),
      /** The id of the last webhook that was examined. */
      after: z.string().nullable(),
    }),
    retryAfterSeconds: [5, 60, 300],
  },
  /** The stale upload cleaner: removes files that were announced, perhaps sent, and never used. */
  "uploads.clean": { access: "system", pool: "slow", payload: z.object({}), retryAfterSeconds: [60, 600] },
  /** Removes deleted files from storage. A file that is already gone counts as removed. */
  "files.remove": {
    access: "tenant",
    pool: "slow",
    payload: z.object({ keys: z.array(z.string()).min(1) }),
    retryAfterSeconds: patient,
    runsWhenSuspended: true,
  },
  /** Removes expired idempotency keys. */
  "idempotency.expire": { access: "system", pool: "slow", payload: z.object({}), retryAfterSeconds: [] },
  /** Removes a deleted resource at the voice provider. A resource that is already gone counts as removed. */
  "upstream.remove": {
    access: "tenant",
    pool: "slow",
    payload: z.object({
      kind: z.enum(["agent", "voice", "tool", "corpus", "source", "registration"]),
      accountId: z.string(),
      providerId: z.string(),
      /** For a source: its corpus. */
      parentId: z.string().optional(),
    }),
    retryAfterSeconds: patient,
    runsWhenSuspended: true,
  },
  /** Sends the inbound routes of one provider account to the provider, for all clients that share it. */
  "telephony.sync": {
    access: "tenant",
    pool: "slow",
    payload: z.object({ accountId: z.string() }),
    retryAfterSeconds: [5, 30, 120, 600, 900],
    runsWhenSuspended: true,
  },
  /** Syncs every account again: an agent may be gone, or the routes may have been changed at the provider. */
  "telephony.sweep": { access: "system", pool: "slow", payload: z.object({}), retryAfterSeconds: [] },
  /** Removes a source of a knowledge base at the voice provider by its name: its creation had an unknown outcome. */
  "knowledge.forget": {
    access: "tenant",
    pool: "slow",
    payload: z.object({ accountId: z.string(), corpusId: z.string(), name: z.string() }),
    retryAfterSeconds: patient,
    runsWhenSuspended: true,
  },
  /** Fails a knowledge file that passed its deadline and has no workflow left. */
  "knowledge.expire": {
    access: "tenant",
    pool: "slow",
    payload: z.object({ fileId: z.string() }),
    retryAfterSeconds: [5, 60, 600],
  },
  /** Finds knowledge files whose ingestion was abandoned. */
  "knowledge.sweep": { access: "system", pool: "slow", payload: z.object({}), retryAfterSeconds: [] },
  /** Sends a voice to the voice provider: language, description and the vendor's definition. */
  "voices.sync": {
    access: "tenant",
    pool: "slow",
    payload: z.object({ voiceId: z.string() }),
    retryAfterSeconds: patient,
  },
  /** Removes voices at the provider under the name of an abandoned voice, which may show up there late. */
  "voices.clear": {
    access: "tenant",
    pool: "slow",
    payload: z.object({ voiceId: z.string(), accountId: z.string(), looksLeft: z.number().int() }),
    retryAfterSeconds: patient,
    runsWhenSuspended: true,
  },
  /** Repairs one voice: abandoned by its workflow, or gone at the provider. */
  "voices.check": {
    access: "tenant",
    pool: "slow",
    payload: z.object({ voiceId: z.string() }),
    retryAfterSeconds: [30, 300, 1800],
    runsWhenSuspended: true,
  },
  /** retry-voice-status: finds voices without a workflow, and active ones that were not checked for a day. */
  "voices.sweep": { access: "system", pool: "slow", payload: z.object({}), retryAfterSeconds: [] },
  /** Runs the next step of a workflow. Its retries are scheduled in the step's own row. */
  "workflows.advance": {
    access: "tenant",
    pool: "slow",
    payload: z.object({ runId: z.string() }),
    retryAfterSeconds: [1, 5, 15],
  },
  /** Finds workflows whose next step is due and that have no job. */
  "workflows.sweep": { access: "system", pool: "slow", payload: z.object({}), retryAfterSeconds: [] },
  /** Sets up our webhook in a client's own account at the voice provider. */
  "accounts.connect": {
    access: "tenant",
    pool: "prompt",
    payload: z.object({ accountId: z.string() }),
    callsProvider: true,
    retryAfterSeconds: patient,
  },
  /** Removes our webhook from a retired account, and erases its API key. */
  "accounts.disconnect": {
    access: "tenant",
    pool: "slow",
    payload: z.object({ accountId: z.string() }),
    // It waits for the bills of the account's calls, which arrive within seconds or not at all.
    retryAfterSeconds: [2, 3, 5, 10, 20, 60, 300, 900, 3600, 3600],
  },
  /** Sets or removes a voice vendor's API key in the client's own account at the voice provider. */
  "credentials.publish": {
    access: "tenant",
    pool: "prompt",
    payload: z.object({ provider: z.string() }),
    callsProvider: true,
    retryAfterSeconds: patient,
  },
  /** Wraps data keys of an earlier master key again with the present one. */
  "vault.rewrap": { access: "system", pool: "slow", payload: z.object({}), retryAfterSeconds: [60, 600] },
  /** Creates the partitions of the coming months, and drops those past their retention. */
  "partitions.keep": { access: "system", pool: "slow", payload: z.object({}), retryAfterSeconds: [60, 600] },
} as const satisfies Record<string, Job>;

export type JobName = keyof typeof jobs;
export type JobPayload<N extends JobName> = z.output<(typeof jobs)[N]["payload"]>;
export type ClientJobName = { [N in JobName]: (typeof jobs)[N]["access"] extends "tenant" ? N : never }[JobName];
