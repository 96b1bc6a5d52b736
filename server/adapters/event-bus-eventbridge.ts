import { setTimeout as sleep } from "node:timers/promises";
import {
  EventBridgeClient,
  EventBridgeServiceException,
  PutEventsCommand,
  type PutEventsRequestEntry,
} from "@aws-sdk/client-eventbridge";
import type { BusEntry, BusVerdict, EventBus } from "../../routers/ports/event-bus.ts";
import type { Deadline } from "../../routers/ports/provider-error.ts";
import { before } from "./http/abort.ts";

export type EventBridgeOptions = {
  /** Its name or its ARN. */
  name: string;
  region: string;
  source: string;
  /** For tests and simulators. */
  endpoint?: string;
  /** `first`: before the second attempt; it doubles up to `most`. */
  backoffMs?: { first: number; most: number };
  /** Timeout of one call. */
  requestTimeoutMs?: number;
};

const entriesPerCall = 10;
/** Of one entry, and of all entries of a call: less than 256 KB (docs.aws.amazon.com/eventbridge, "PutEvents entry size"). */
const bytesPerCall = 256 * 1024 - 1;
const timeBytes = 14;

/** The bus refuses this entry now and always. */
const refusals = new Set([
  "InvalidArgument",
  "MalformedDetail",
  "RedactionFailure",
  "NotAuthorizedForDetailTypeException",
  "ValidationException",
]);
/** The bus accepts nothing before an operator corrects this: an immediate retry is useless. */
const misconfigurations = new Set([
  "AccessDeniedException",
  "ResourceNotFoundException",
  "NotAuthorizedForSourceException",
  "InvalidAccountIdException",
  "UnrecognizedClientException",
  "InvalidSignatureException",
  "ExpiredTokenException",
  "CredentialsProviderError",
]);

type Pending = { index: number; entry: PutEventsRequestEntry; bytes: number };

/** Sends events to an EventBridge bus: ten per call, within its size limits. Only failed entries are retried. */
export function eventBridge({
  name,
  region,
  source,
  endpoint,
  backoffMs,
  requestTimeoutMs: requestTimeout = 5_000,
}: EventBridgeOptions): EventBus & { close(): void } {
  const { first, most } = backoffMs ?? { first: 100, most: 2_000 };
  const client = new EventBridgeClient({
    region,
    maxAttempts: 1, // retried here: the SDK's retry would send accepted entries again
    requestHandler: { connectionTimeout: 1_000, requestTimeout, throwOnRequestTimeout: true },
    ...(endpoint ? { endpoint } : {}),
  });

  /** One call. Returns a verdict for each entry, in order. */
  async function put(batch: readonly Pending[], { signal }: Deadline): Promise<BusVerdict[]> {
    try {
      const input = { Entries: batch.map(({ entry }) => entry) };
      const sending = client.send(new PutEventsCommand(input), { abortSignal: signal });
      const { Entries = [] } = await before(signal, sending);
      return batch.map((_, index) => {
        const { EventId, ErrorCode, ErrorMessage } = Entries[index] ?? {};
        if (EventId && !ErrorCode) return { is: "accepted" };
        return verdictOf(ErrorCode ?? "NoResult", ErrorMessage ?? "The response has no result for this entry.");
      });
    } catch (error) {
      const { name, message } = error instanceof Error ? error : new Error(String(error));
      const verdict = verdictOf(
        name,
        error instanceof EventBridgeServiceException ? message : "The bus is unreachable.",
      );
      // One invalid entry fails the whole call, and the error does not name it.
      if (verdict.is === "refused" && batch.length > 1) return (await each(batch, { signal })).flat();
      return batch.map(() => verdict);
    }
  }

  async function each(batch: readonly Pending[], deadline: Deadline): Promise<BusVerdict[]> {
    const verdicts: BusVerdict[] = [];
    for (const one of batch) verdicts.push(...(await put([one], deadline)));
    return verdicts;
  }

  async function publish(entries: readonly BusEntry[], deadline: Deadline): Promise<BusVerdict[]> {
    const verdicts = entries.map(
      (): BusVerdict => ({ is: "failed", why: "The deadline has passed.", isLasting: false }),
    );
    let pending = entries.map((entry, index): Pending => ({ index, ...toRequestEntry(entry) }));
    for (let waitMs = first; !deadline.signal.aborted; waitMs = Math.min(waitMs * 2, most)) {
      for (const batch of batchesOf(pending)) {
        if (deadline.signal.aborted) break;
        const results = await put(batch, deadline);
        for (const [n, { index }] of batch.entries()) verdicts[index] = results[n]!;
      }
      pending = pending.filter(({ index }) => mayRetry(verdicts[index]!));
      if (pending.length === 0) break;
      await sleep(waitMs * Math.random(), undefined, { signal: deadline.signal }).catch(() => {});
    }
    return verdicts;
  }

  function toRequestEntry({ type, at, detail, thin }: BusEntry): Omit<Pending, "index"> {
    const full = { Source: source, DetailType: type, Detail: detail, Time: at, EventBusName: name };
    if (bytesOf(full) <= bytesPerCall) return { entry: full, bytes: bytesOf(full) };
    const entry = { ...full, Detail: thin() };
    return { entry, bytes: bytesOf(entry) };
  }

  return { name, publish, close: () => client.destroy() };
}

/** As AWS counts: the time, and the UTF-8 texts. */
const bytesOf = ({ Source = "", DetailType = "", Detail = "" }: PutEventsRequestEntry) =>
  timeBytes + Buffer.byteLength(Source) + Buffer.byteLength(DetailType) + Buffer.byteLength(Detail);

function batchesOf(pending: readonly Pending[]): Pending[][] {
  const batches: Pending[][] = [];
  let room = 0;
  for (const each of pending) {
    const last = batches.at(-1);
    if (last && last.length < entriesPerCall && each.bytes <= room) last.push(each);
    else batches.push([each]);
    room = (last === batches.at(-1) ? room : bytesPerCall) - each.bytes;
  }
  return batches;
}

function verdictOf(code: string, message: string): BusVerdict {
  const why = `${code}: ${message}`.slice(0, 500);
  if (refusals.has(code)) return { is: "refused", why };
  return { is: "failed", why, isLasting: misconfigurations.has(code) };
}

const mayRetry = (verdict: BusVerdict) => verdict.is === "failed" && !verdict.isLasting;
