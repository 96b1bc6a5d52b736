import type { Tx } from "../db/client.ts";
import { type CallReport, changesNothing } from "../routers/calls/lifecycle/apply-provider-event.ts";
import { shownEndReason } from "../routers/calls/lifecycle/outcome.ts";
import { isErased, type Mark, type WaitingMessage } from "../routers/ingress/messages.ts";
import { agentOfCall, type CallQuery, findCalls, type OwnedCall } from "../routers/ingress/owners.ts";
import { type CallOwner, callInAddress, type IngressProvider } from "../routers/ingress/service.ts";
import type { LegReport } from "../routers/ports/carriers.ts";
import type { Providers } from "../routers/ports/index.ts";
import type { ProviderCall } from "../routers/ports/ultravox.ts";

/** What a message says, from its own content. */
type Content = { mark: Mark } | { query: CallQuery; seen: ProviderCall } | { query: CallQuery; leg: LegReport };

/** The result is known, and `refresh` names a call to read from the provider. */
export type Known = { mark: Mark; refresh?: CallOwner };
/** A report about a call of ours. */
type About = { call: OwnedCall; report: CallReport };
/** A call that is not ours yet, of one of our agents. */
type New = { agent: { clientId: string; agentId: string }; seen: ProviderCall };

export type Planned<P = Known | About | New> = { message: WaitingMessage; plan: P };

/** Messages that one transaction of their client applies. `mayBeOpen`: the intent of their only call may not be settled. */
export type Unit =
  | { kind: "reports"; clientId: string; mayBeOpen: boolean; messages: Planned<About>[] }
  | { kind: "new"; clientId: string; messages: Planned<New>[] };

/** Decides what each message needs. Reads, and changes nothing. */
export async function planMessages(tx: Tx, messages: readonly WaitingMessage[], providers: Providers) {
  const contents = messages.map((message) => ({ message, content: contentOf(message, providers) }));
  const asking = contents.flatMap(({ message, content }) => ("query" in content ? [{ message, content }] : []));
  const calls = await findCalls(
    tx,
    asking.map(({ content }) => content.query),
  );
  const found = new Map(asking.map(({ message }, n) => [message, calls[n] ?? null]));
  const plans = contents.map(({ message, content }) =>
    "mark" in content ? content : planOf(tx, message, content, found.get(message) ?? null),
  );
  return (await Promise.all(plans)).map((plan, n): Planned => ({ message: messages[n]!, plan }));
}

type Readers = Record<IngressProvider, (message: WaitingMessage, providers: Providers) => Content>;
const readers: Readers = { ultravox: readUltravox, stripe: readStripe, telnyx: readTelnyx };

function contentOf(message: WaitingMessage, providers: Providers): Content {
  if (isErased(message)) return { mark: ignored("Erased with its call.") };
  return readers[message.provider](message, providers);
}

const ignored = (note: string): Mark => ({ status: "ignored", note });
const unreadable: Mark = { status: "failed", note: "The body is not a known event." };

function readUltravox({ body, providerAccountId: accountId }: WaitingMessage, { ultravox }: Providers): Content {
  const seen = readOrNull(() => ultravox.readEvent(body))?.call;
  if (!seen) return { mark: unreadable };
  const { callId, providerCallId } = seen;
  return { query: { callId, providerCallId, of: { accountId } }, seen };
}

/** Stored unchanged, so that it can be applied once there is a handler for its type. */
function readStripe({ body }: WaitingMessage, { stripe }: Providers): Content {
  const event = readOrNull(() => stripe.readEvent(body));
  return { mark: event ? ignored(`No handler for ${event.type}.`) : unreadable };
}

/**
 * A leg of a call. The call is named by our own id: returned by the carrier, or in the URL that the carrier calls. An event of
 * `pacc_…` must belong to a call of that voice provider account; an event of `cred_…`, a client's own key, to its client.
 */
function readTelnyx({ body, headers, providerAccountId, clientId }: WaitingMessage, { telnyx }: Providers): Content {
  const event = readOrNull(() => telnyx.readEvent(body));
  if (!event) return { mark: unreadable };
  const { type, leg } = event;
  if (!leg) return { mark: ignored(`No handler for ${type}.`) };
  const inAddress = headers[callInAddress] ?? null;
  if (leg.callId !== null && inAddress !== null && leg.callId !== inAddress) {
    return { mark: ignored("The event and its URL name different calls.") };
  }
  const callId = leg.callId ?? inAddress;
  if (callId === null) return { mark: ignored("The event names no call of ours.") };
  const isOwn = providerAccountId.startsWith("cred_");
  if (isOwn && clientId === null) return { mark: noCallOfAccount };
  const of = isOwn ? { clientId: clientId! } : { accountId: providerAccountId };
  return { query: { callId, providerCallId: null, of }, leg };
}

const noCallOfAccount = ignored("No call of this account.");
export const noCall = ignored("No call of this provider account.");
const unknownEnd = "Unknown end reason: stored as received, and shown as `other`.";
const outsideWindow = "Outside the time window: the call is read from the provider instead.";

async function planOf(
  tx: Tx,
  message: WaitingMessage,
  content: Exclude<Content, { mark: Mark }>,
  call: OwnedCall | null,
): Promise<Planned["plan"]> {
  if ("leg" in content)
    return call ? { call, report: legReportOf(message, content.leg, call) } : { mark: noCallOfAccount };
  const { seen } = content;
  if (!call) {
    const agent = await agentOfCall(tx, message.providerAccountId, seen);
    return agent ? { agent, seen } : { mark: noCall };
  }
  if (message.stale) return readInstead(call);
  if (changesNothing(call, seen)) return { mark: appliedTo(call, seen) };
  return { call, report: { callId: call.callId, seen } };
}

function legReportOf(
  { receivedAt, providerAccountId: accountId }: WaitingMessage,
  leg: LegReport,
  { callId }: OwnedCall,
) {
  return { callId, leg, from: { accountId, receivedAt: new Date(receivedAt) } };
}

/** For an event outside the time window: it may be a replay. */
export function readInstead({ clientId, callId }: CallOwner): Known {
  return { mark: { ...ignored(outsideWindow), clientId, subjectId: callId }, refresh: { clientId, callId } };
}

/** `seen`: the state that was applied, if it came from the voice provider. */
export function appliedTo({ clientId, callId }: CallOwner, seen: ProviderCall | null): Mark {
  const isUnknown = seen !== null && seen.endReason !== null && shownEndReason(seen.endReason) === "other";
  return { status: "applied", clientId, subjectId: callId, note: isUnknown ? unknownEnd : undefined };
}

/**
 * One transaction for the messages of each call. Several calls in one would lock their rows, and the jobs that they queue by
 * key, in an order that crosses those of sweeps and requests.
 */
export function unitsOf(planned: readonly Planned[]): Unit[] {
  const about = planned.flatMap(({ message, plan }) => ("report" in plan ? [{ message, plan }] : []));
  const isNew = planned.flatMap(({ message, plan }) => ("agent" in plan ? [{ message, plan }] : []));
  const [open, settled] = [about.filter(mayBeOpen), about.filter((each) => !mayBeOpen(each))];
  const newCallOf = ({ message, plan }: Planned<New>) => `${message.providerAccountId} ${plan.seen.providerCallId}`;
  return [
    ...grouped(settled, callOf).map((messages): Unit => ({ ...unitOf(messages), mayBeOpen: false })),
    ...grouped(open, callOf).map((messages): Unit => ({ ...unitOf(messages), mayBeOpen: true })),
    ...grouped(isNew, newCallOf).map(
      (messages): Unit => ({ kind: "new", clientId: messages[0]!.plan.agent.clientId, messages }),
    ),
  ];
}

/** The intent of a call is settled in the transaction that moves the call on, and never opens again. */
const mayBeOpen = ({ plan: { call } }: Planned<About>) => call.status === "queued" || call.status === "unknown";

const callOf = ({ plan }: Planned<About>) => plan.call.callId;
const unitOf = (messages: Planned<About>[]) =>
  ({ kind: "reports", clientId: messages[0]!.plan.call.clientId, messages }) as const;

const grouped = <T>(items: readonly T[], keyOf: (item: T) => string): T[][] => [...Map.groupBy(items, keyOf).values()];

function readOrNull<T>(read: () => T): T | null {
  try {
    return read();
  } catch {
    return null;
  }
}
