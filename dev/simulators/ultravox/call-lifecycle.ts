import { answered, dial, letGo } from "./carrier.ts";
import { tell } from "./conversation.ts";
import { type Behaviour, behaviourFor, type EndReason } from "./numbers.ts";
import { type CallRequest, type MediumInput, Refusal, type WebhookEvent } from "./requests.ts";
import {
  type Account,
  type Agent,
  after,
  type Call,
  elapsed,
  increment,
  MAX_CALLS,
  nextThing,
  type World,
} from "./state.ts";
import { limitSeconds } from "./views.ts";
import { announce } from "./webhooks.ts";

/** Simulated seconds between the end of a call and its bill. */
const BILLING_SECONDS = 2;

export function startCall(
  world: World,
  account: Account,
  input: {
    request: CallRequest;
    agent?: Agent | undefined;
    medium?: MediumInput;
    behaviour?: Behaviour | undefined;
    joinHost: string;
  },
): Call {
  const { request, agent } = input;
  const medium = input.medium ?? request.medium ?? { webRtc: {} };
  const behaviour = input.behaviour ?? behaviourFor(medium);
  if (behaviour.refused) throw new Refusal(400, { medium: ["The telephony provider rejected this call."] });
  makeRoom(world);
  const { ordinal, random } = nextThing(world, "call");
  const ringSeconds = millis(random.between(...behaviour.ring));
  const talkSeconds = behaviour.talk ? millis(random.between(...behaviour.talk)) : 0;
  const call: Call = {
    id: random.uuid(),
    ordinal,
    account: account.id,
    agent: agent ? { agentId: agent.id, name: agent.name } : null,
    created: Date.now(),
    request,
    medium,
    behaviour,
    ringSeconds,
    talkSeconds,
    stageId: random.uuid(),
    lines: tell(random, behaviour, talkSeconds, request.selectedTools),
    joinedAt: null,
    endedAt: null,
    endReason: null,
    billed: false,
    joinHost: input.joinHost,
  };
  world.calls.set(call.id, call);
  world.active.set(account.id, activeCalls(world, account.id) + 1);
  increment(world.counts.accepted, account.id);
  if (request.metadata?.callId) increment(world.counts.acceptedByCallId, request.metadata.callId);
  if (agent) agent.calls += 1;
  announce(world, call, "call.started");
  dial(world, call);
  ring(world, call);
  return call;
}

export function activeCalls(world: World, account: string): number {
  return world.active.get(account) ?? 0;
}

function ring(world: World, call: Call): void {
  const { behaviour, ringSeconds } = call;
  if (behaviour.hold === "ringing") return;
  const timeout = limitSeconds(call).join;
  // Only SIP gives the provider a reason for an unanswered call. Other media see no client join, and wait.
  const settles = behaviour.talk || call.medium.sip ? ringSeconds : Number.POSITIVE_INFINITY;
  const at = Math.min(settles, timeout);
  const answers = behaviour.talk && settles <= timeout;
  call.timer = after(world, at, () => (answers ? joinCall(world, call, at) : endCall(world, call, "unjoined", at)));
}

/** The callee answers: at the given time, or now. */
export function joinCall(world: World, call: Call, at = millis(elapsed(world, call))): void {
  if (call.joinedAt !== null || call.endedAt !== null) throw new Refusal(409, "The call is not ringing.");
  clearTimeout(call.timer);
  call.joinedAt = at;
  answered(world, call);
  announce(world, call, "call.joined");
  if (call.behaviour.hold === "talking") return;
  const longest = limitSeconds(call).talk;
  const timedOut = call.talkSeconds >= longest;
  const talk = timedOut ? longest : call.talkSeconds;
  const reason = timedOut ? "timeout" : call.behaviour.endReason;
  // A number without a conversation (such as busy) that was answered through the admin API has no end reason.
  const endReason = reason === "unjoined" ? "hangup" : reason;
  call.timer = after(world, talk, () => endCall(world, call, endReason, millis(at + talk)));
}

export function endCall(world: World, call: Call, reason: EndReason, at = millis(elapsed(world, call))): void {
  if (call.endedAt !== null) throw new Refusal(409, "The call has ended.");
  clearTimeout(call.timer);
  call.endedAt = Math.max(at, call.joinedAt ?? 0);
  call.endReason = call.joinedAt === null ? "unjoined" : reason;
  world.active.set(call.account, activeCalls(world, call.account) - 1);
  letGo(world, call);
  announce(world, call, "call.ended");
  call.timer = after(world, BILLING_SECONDS, () => billCall(world, call));
}

export function billCall(world: World, call: Call): void {
  if (call.endedAt === null || call.billed) throw new Refusal(409, "The call is not waiting for its bill.");
  clearTimeout(call.timer);
  call.billed = true;
  announce(world, call, "call.billed");
  if (call.request.retentionPolicy === "CALL_RETENTION_POLICY_AUTO_DELETE") forgetCall(world, call);
}

export function forgetCall(world: World, call: Call): void {
  clearTimeout(call.timer);
  world.calls.delete(call.id);
}

/** Whether the call has reached this event. */
export function reached(call: Call, event: WebhookEvent): boolean {
  if (event === "call.started") return true;
  if (event === "call.joined") return call.joinedAt !== null;
  return event === "call.ended" ? call.endedAt !== null : call.billed;
}

/** Removes the oldest ended call. A simulator full of live calls refuses more. */
function makeRoom(world: World): void {
  if (world.calls.size < MAX_CALLS) return;
  for (const call of world.calls.values()) {
    if (!call.billed) continue;
    forgetCall(world, call);
    return;
  }
  throw new Refusal(503, "There is no capacity for another call.", { "Retry-After": "5" });
}

export function millis(seconds: number): number {
  return Math.round(seconds * 1000) / 1000;
}
