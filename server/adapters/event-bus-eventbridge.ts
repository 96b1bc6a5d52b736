import { setTimeout as sleep } from "node:timers/promises";
import {
  EventBridgeClient,
  EventBridgeServiceException,
  PutEventsCommand,
  type PutEventsRequestEntry,
} from "@aws-sdk/client-eventbridge";
import type { BusEntry, BusVerdict, EventBus } from "../../routers/ports/event-bus.ts";
import type { Deadline } from "../../routers/ports/provider-error.ts";
import { before } from "./http.ts";

export type EventBridgeOptions = {
  /** Its name or its ARN. */
  name: string;
  region: string;
  source: string;
  /** Of a stand-in. */
  endpoint?: string;
  /** Before the second attempt, and at most before any other. */
  backoffMs?: { first: number; most: number };
  /** For how long the answer to a call is waited for. */
  requestTimeoutMs?: number;
};

const entriesPerCall = 10;
/** Of one entry, and of all entries of a call together: less than 256 KB (docs.aws.amazon.com/eventbridge, "PutEvents entry size"). */
const bytesPerCall = 256 * 1024 - 1;
const timeBytes = 14;

/** The bus says no to this entry, and always will. */
const refusals = new Set([
  "InvalidArgument",
  "MalformedDetail",
  "RedactionFailure",
  "NotAuthorizedForDetailTypeException",
  "ValidationException",
]);
/** Nothing will be accepted before somebody puts it right: asking again at once is no use. */
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

type Pending = { place: number; entry: PutEventsRequestEntry; bytes: number };

/** Events to a bus of Amazon EventBridge: ten a call, within its sizes, and of those only the failed ones once more. */
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
    maxAttempts: 1, // the attempts are made here, since those of the client would send again what was accepted
    requestHandler: { connectionTimeout: 1_000, requestTimeout, throwOnRequestTimeout: true },
    ...(endpoint ? { endpoint } : {}),
  });

  /** One call. What it says of each, in order. */
  async function put(batch: readonly Pending[], { signal }: Deadline): Promise<BusVerdict[]> {
    try {
      const input = { Entries: batch.map(({ entry }) => entry) };
      const asked = client.send(new PutEventsCommand(input), { abortSignal: signal });
      const { Entries = [] } = await before(signal, asked);
      return batch.map((_, place) => {
        const { EventId, ErrorCode, ErrorMessage } = Entries[place] ?? {};
        if (EventId && !ErrorCode) return { is: "accepted" };
        return verdictOf(ErrorCode ?? "NoAnswer", ErrorMessage ?? "The bus said nothing of this entry.");
      });
    } catch (error) {
      const { name, message } = error instanceof Error ? error : new Error(String(error));
      const verdict = verdictOf(name, error instanceof EventBridgeServiceException ? message : "It cannot be reached.");
      // One that is not right has had all of them refused, and it is not said which.
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
      (): BusVerdict => ({ is: "failed", why: "There was no time left.", isLasting: false }),
    );
    let pending = entries.map((entry, place): Pending => ({ place, ...written(entry) }));
    for (let waitMs = first; !deadline.signal.aborted; waitMs = Math.min(waitMs * 2, most)) {
      for (const batch of batchesOf(pending)) {
        if (deadline.signal.aborted) break;
        const said = await put(batch, deadline);
        for (const [index, { place }] of batch.entries()) verdicts[place] = said[index]!;
      }
      pending = pending.filter(({ place }) => isWorthAnother(verdicts[place]!));
      if (pending.length === 0) break;
      await sleep(waitMs * Math.random(), undefined, { signal: deadline.signal }).catch(() => {});
    }
    return verdicts;
  }

  function written({ type, at, detail, thin }: BusEntry): Omit<Pending, "place"> {
    const full = { Source: source, DetailType: type, Detail: detail, Time: at, EventBusName: name };
    if (bytesOf(full) <= bytesPerCall) return { entry: full, bytes: bytesOf(full) };
    const entry = { ...full, Detail: thin() };
    return { entry, bytes: bytesOf(entry) };
  }

  return { name, publish, close: () => client.destroy() };
}

/** As the documentation counts: the time, and the texts in UTF-8. */
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

const isWorthAnother = (verdict: BusVerdict) => verdict.is === "failed" && !verdict.isLasting;
