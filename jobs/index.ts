import type { JobName } from "../db/queue.ts";
import { finalise, hangUp, refresh, sweep } from "./calls.ts";
import { apply } from "./ingress.ts";
import { resolve, sweep as sweepIntents } from "./intents.ts";
import { expire, keepPartitions } from "./maintenance.ts";
import type { Task } from "./task.ts";
import { deliver, fanOut } from "./webhooks.ts";

/** Who does what. A name of `db/queue.ts` without a task does not compile. */
export const tasks: { [N in JobName]: Task<N> } = {
  "calls.finalise": finalise,
  "calls.hangUpStray": hangUp,
  "calls.refresh": refresh,
  "calls.sweep": sweep,
  "events.fanOut": fanOut,
  "idempotency.expire": expire,
  "ingress.apply": apply,
  "intents.resolve": resolve,
  "intents.sweep": sweepIntents,
  "partitions.keep": keepPartitions,
  "webhooks.deliver": deliver,
};

/** What happens by the clock, in UTC. The finest step is a minute: what is wanted sooner has a timer in the worker. */
export const crontab = `
* * * * * calls.sweep
*/5 * * * * intents.sweep
17 * * * * idempotency.expire
41 3 * * * partitions.keep
`;
