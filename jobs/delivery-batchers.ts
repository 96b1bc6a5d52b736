import { type Claim, loadDeliveries } from "../routers/webhooks/deliveries/load-deliveries.ts";
import type { LoadedDelivery } from "../routers/webhooks/deliveries/loaded-delivery.ts";
import {
  type AttemptResult,
  type Reservation,
  recordAttempts,
} from "../routers/webhooks/deliveries/record-attempts.ts";
import type { SlotRequest } from "../routers/webhooks/deliveries/slot-reservation.ts";
import { releaseSlots, reserveDueSlots, takeDueSlots } from "../routers/webhooks/deliveries/slots.ts";
import { createBatcher } from "./runtime/batcher.ts";
import { createPacer } from "./runtime/pacer.ts";
import { openSendLimit, type SendLimit } from "./runtime/send-limit.ts";
import type { JobContext } from "./runtime/task.ts";

/** The database work of the delivery jobs of one pool, batched behind that pool's fence. */
type DeliveryBatchers = {
  find(claim: Claim): Promise<LoadedDelivery | null>;
  record(finding: Reservation & AttemptResult): Promise<boolean>;
  /** Reserves the slot again and queues the delivery. */
  admit(wanted: SlotRequest): Promise<void>;
  /** Reserves the slot again, and returns deliveries of the same client that the caller sends now. */
  take(wanted: SlotRequest): Promise<LoadedDelivery[]>;
  release(claim: Claim): Promise<void>;
  sending: SendLimit;
  pace: ReturnType<typeof createPacer>;
};

const ofPool = new WeakMap<JobContext["fence"], DeliveryBatchers>();
/** The first item of a batch waits for others: from two jobs a second on, that saves more than it costs. */
const shared = { waitMs: 1, maxItems: 64, maxBatches: 2 };
/**
 * One batch at a time: a second would wait for the first one's lock of the slots. No job waits for it, and it costs the
 * same for one slot of an endpoint as for all. So under load it pauses between two batches.
 */
const exclusive = { waitMs: 1, maxWaitMs: 5, maxItems: 64, maxBatches: 1 };

/** The batchers of the pool that runs this job. */
export function batchersOf(ctx: JobContext): DeliveryBatchers {
  const existing = ofPool.get(ctx.fence);
  if (existing) return existing;
  const created = createBatchers(ctx);
  ofPool.set(ctx.fence, created);
  return created;
}

/** A reservation is for any worker. This one may have got more than its part, and another may be idle. */
const waitToSendMs = 1_000;

const createBatchers = ({ asSystem, pool }: JobContext): DeliveryBatchers => ({
  find: createBatcher({
    ...shared,
    work: (claims: Claim[]) => asSystem((tx) => loadDeliveries(tx, claims), { mode: "read" }),
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
  take: createBatcher({
    ...exclusive,
    work: async (wanted: SlotRequest[]) => assign(wanted, await asSystem((tx) => takeDueSlots(tx, wanted))),
  }),
  release: createBatcher({
    ...shared,
    work: async (claims: Claim[]) => {
      await asSystem((tx) => releaseSlots(tx, claims));
      return claims.map(() => undefined);
    },
  }),
  sending: openSendLimit(pool.slots, waitToSendMs),
  pace: createPacer(),
});

/** Shares out what was taken: to the requests of the same client in turn. */
function assign(wanted: readonly SlotRequest[], taken: readonly LoadedDelivery[]): LoadedDelivery[][] {
  const parts = wanted.map((): LoadedDelivery[] => []);
  const ofClient = Map.groupBy(wanted.keys(), (n) => wanted[n]!.clientId);
  for (const [n, delivery] of taken.entries()) {
    const places = ofClient.get(delivery.clientId)!;
    parts[places[n % places.length]!]!.push(delivery);
  }
  return parts;
}
