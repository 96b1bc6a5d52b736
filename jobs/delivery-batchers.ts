import { type LoadedDelivery, loadDeliveries } from "../routers/webhooks/deliveries/load-deliveries.ts";
import {
  type AttemptResult,
  type Reservation,
  recordAttempts,
} from "../routers/webhooks/deliveries/record-attempts.ts";
import type { SlotRequest } from "../routers/webhooks/deliveries/slot-reservation.ts";
import { reserveDueSlots } from "../routers/webhooks/deliveries/slots.ts";
import { createBatcher } from "./runtime/batcher.ts";
import { createPacer } from "./runtime/pacer.ts";
import type { JobContext } from "./runtime/task.ts";

type DeliveryKey = { clientId: string; deliveryId: string };

/** The database work of the delivery jobs of one pool, batched behind that pool's fence. */
type DeliveryBatchers = {
  find(key: DeliveryKey): Promise<LoadedDelivery | null>;
  record(finding: Reservation & AttemptResult): Promise<boolean>;
  admit(wanted: SlotRequest): Promise<void>;
  pace: ReturnType<typeof createPacer>;
};

const ofPool = new WeakMap<JobContext["fence"], DeliveryBatchers>();
/** The first item of a batch waits for others: from two jobs a second on, that saves more than it costs. */
const shared = { waitMs: 1, maxItems: 200, maxBatches: 2 };
/**
 * One batch at a time: a second would wait for the first one's lock of the slots. No job waits for it, and it costs the
 * same for one slot of an endpoint as for all. So under load it pauses between two batches.
 */
const exclusive = { waitMs: 1, maxWaitMs: 5, maxItems: 1000, maxBatches: 1 };

/** The batchers of the pool that runs this job. */
export function batchersOf(ctx: JobContext): DeliveryBatchers {
  const existing = ofPool.get(ctx.fence);
  if (existing) return existing;
  const created = createBatchers(ctx);
  ofPool.set(ctx.fence, created);
  return created;
}

const createBatchers = ({ asSystem }: JobContext): DeliveryBatchers => ({
  find: createBatcher({
    ...shared,
    work: (keys: DeliveryKey[]) => asSystem((tx) => loadDeliveries(tx, keys), { mode: "read" }),
  }),
  record: createBatcher({
    ...shared,
    work: (findings: (Reservation & AttemptResult)[]) => asSystem((tx) => recordAttempts(tx, findings)),
  }),
  admit: createBatcher({
    ...exclusive,
    work: async (wanted: SlotRequest[]) => {
      await asSystem((tx) => reserveDueSlots(tx, wanted));
      return wanted.map(() => undefined);
    },
  }),
  pace: createPacer(),
});
