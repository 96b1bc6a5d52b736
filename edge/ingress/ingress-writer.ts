import { type Database, DatabaseBusy } from "../../db/client.ts";
import { isRowSqlState } from "../../db/row-errors.ts";
import { createBatcher } from "../../routers/core/batcher.ts";
import { type Received, storeReceived } from "../../routers/ingress/service.ts";

type Message = { received: Received; requestId: string };

const maxBatches = 2;
/**
 * A single message is stored immediately. At more than 20 a second, a batch waits for others: its commit, its job and the
 * transactions that apply it then serve several. Providers wait for seconds.
 */
const [waitMs, idleMs] = [20, 50];
const maxItems = 100;
const maxBytes = 8_000_000;
/** Beyond these limits the provider must send again: waiting messages are held in memory. */
const maxWaiting = 1000;
const maxWaitingBytes = 100_000_000;

/** Stores provider messages in batches. Returns whether the message was new. */
export function ingressWriter(db: Database) {
  const waiting = new Set<Message>();
  let waitingBytes = 0;
  const bytesOf = ({ received }: Message) => received.body.length;
  const store = createBatcher({
    ...{ waitMs, idleMs, maxItems, maxBatches, maxBytes, bytesOf, isItemError },
    work: (batch: Message[]) => {
      for (const message of batch) if (waiting.delete(message)) waitingBytes -= bytesOf(message);
      return db.asSystem((tx) => storeReceived(tx, batch));
    },
  });
  return async (received: Received, requestId: string): Promise<boolean> => {
    if (waiting.size >= maxWaiting || waitingBytes > maxWaitingBytes)
      throw new DatabaseBusy("Too many provider messages are waiting to be stored.");
    const message = { received, requestId };
    waiting.add(message);
    waitingBytes += bytesOf(message);
    return await store(message);
  };
}

function isItemError(error: unknown): boolean {
  const { code, cause } = error as { code?: unknown; cause?: { code?: unknown } };
  return isRowSqlState(String(code ?? cause?.code ?? ""));
}
