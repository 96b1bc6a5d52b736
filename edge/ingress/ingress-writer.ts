import { type Database, DatabaseBusy } from "../../db/client.ts";
import { type Received, storeReceived } from "../../routers/ingress/service.ts";

type Waiting = {
  received: Received;
  requestId: string;
  kept: (fresh: boolean) => void;
  failed: (error: unknown) => void;
};

/** Each batch is one statement in one commit; while two are under way, what comes waits for the next. */
const batchesAtOnce = 2;
const messagesPerBatch = 100;
const bytesPerBatch = 8_000_000;
/** Beyond this the provider is told to come again: what waits is held in memory. */
const mostWaiting = 1000;
const mostWaitingBytes = 100_000_000;

/** Keeps what arrives, many at a time: one alone at once, and a burst in few commits. Answers whether it was new. */
export function ingressWriter(db: Database) {
  const waiting: Waiting[] = [];
  let waitingBytes = 0;
  let underWay = 0;

  const next = () => {
    while (underWay < batchesAtOnce && waiting.length > 0) {
      const batch = take();
      underWay++;
      store(batch).finally(() => {
        underWay--;
        next();
      });
    }
  };

  /** At least one, however large. */
  const take = () => {
    let bytes = 0;
    let count = 0;
    for (; count < Math.min(waiting.length, messagesPerBatch); count++) {
      bytes += waiting[count]!.received.body.length;
      if (count > 0 && bytes > bytesPerBatch) break;
    }
    const batch = waiting.splice(0, count);
    for (const { received } of batch) waitingBytes -= received.body.length;
    return batch;
  };

  /** Should one of a batch be what the database cannot keep, each is tried alone: it must not take others with it. */
  const store = async (batch: Waiting[]): Promise<void> => {
    try {
      const fresh = await db.asSystem((tx) => storeReceived(tx, batch));
      for (const [index, { kept }] of batch.entries()) kept(fresh[index]!);
    } catch (error) {
      const areTried = batch.length > 1 && isOfData(error);
      for (const one of batch) {
        if (areTried) await store([one]);
        else one.failed(error);
      }
    }
  };

  return (received: Received, requestId: string) =>
    new Promise<boolean>((kept, failed) => {
      if (waiting.length >= mostWaiting || waitingBytes > mostWaitingBytes) {
        return failed(new DatabaseBusy("Too many messages of providers wait to be kept."));
      }
      waitingBytes += received.body.length;
      waiting.push({ received, requestId, kept, failed });
      next();
    });
}

/** What Postgres says of values, of constraints and of its limits: SQLSTATE classes 22, 23 and 54. */
function isOfData(error: unknown): boolean {
  const { code, cause } = error as { code?: unknown; cause?: { code?: unknown } };
  return /^(22|23|54)/.test(String(code ?? cause?.code ?? ""));
}
