import { eq } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { enqueue } from "../../../db/queue.ts";
import { calls } from "../../../db/schema/calls.ts";
import type { ProviderQuery } from "../../core/call-provider.ts";
import { ApiError } from "../../core/errors.ts";
import { openIntentOf } from "../../core/intents.ts";
import type { Deadline } from "../../ports/provider-error.ts";
import type { ProviderCall, Ultravox } from "../../ports/ultravox.ts";
import type { Call, HangUp } from "../schema.ts";
import { type CallRow, callNotFound, getCall, lockCall } from "../service.ts";
import { applyProviderCall } from "./apply-provider-event.ts";

const find = async (tx: Tx, id: string): Promise<CallRow> => {
  const [call] = await tx.select().from(calls).where(eq(calls.id, id));
  if (!call) throw callNotFound(id);
  return call;
};

async function lookUp(ultravox: Ultravox, call: CallRow, deadline: Deadline): Promise<ProviderCall | null> {
  if (!call.providerCallId || call.erasedAt) return null;
  return ultravox.getCall(call.providerAccountId, call.providerCallId, deadline);
}

/** Asks the provider how a call stands, and brings it there. What is not at the provider yet is answered as it is. */
export function refreshCall(ultravox: Ultravox, id: string): ProviderQuery<CallRow, ProviderCall | null, Call> {
  return {
    read: (tx) => find(tx, id),
    execute: (call, deadline) => lookUp(ultravox, call, deadline),
    async record(tx, _call, seen) {
      // While it is not settled who took the call, its intent is the one to hear of it.
      if (seen && !(await openIntentOf(tx, id))) await applyProviderCall(tx, id, seen, "asked");
      return getCall(tx, id);
    },
  };
}

type HungUp = { done: boolean; seen: ProviderCall | null };

/** Ends a call. One that rings cannot be ended before somebody answers: it is then, if that is wished. */
export function hangUpCall(ultravox: Ultravox, { id, whenJoined }: HangUp): ProviderQuery<CallRow, HungUp, Call> {
  return {
    async read(tx) {
      const call = await find(tx, id);
      if (isOver(call)) throw over(call);
      return call;
    },
    async execute(call, deadline) {
      if (!call.providerCallId) return { done: false, seen: null };
      const { providerAccountId, providerCallId } = call;
      const done = (await ultravox.hangUp(providerAccountId, providerCallId, deadline)) === "done";
      // What the provider will not end may be over, or may have been answered at this moment.
      return { done, seen: await lookUp(ultravox, call, deadline) };
    },
    async record(tx, _call, { done, seen }) {
      if (seen && !(await openIntentOf(tx, id))) await applyProviderCall(tx, id, seen, "asked");
      const call = await lockCall(tx, id);
      if (done) return getCall(tx, id);
      if (isOver(call)) throw over(call);
      if (!whenJoined) throw ringing(call);
      await tx.update(calls).set({ hangUpWhenJoined: true }).where(eq(calls.id, id));
      if (call.status === "active") await enqueue(tx, "calls.hangUp", { callId: id }, { key: id });
      return getCall(tx, id);
    },
  };
}

const isOver = ({ status }: CallRow) => status === "ended" || status === "failed";

const over = ({ status }: CallRow) => new ApiError("call_not_joined", `The call is over: it has ${status}.`);

function ringing({ status, joinTimeoutSeconds }: CallRow): ApiError {
  if (status === "active") {
    return new ApiError("call_not_joined", "The voice provider would not end the call yet. Try again in a moment.");
  }
  return new ApiError(
    "call_not_joined",
    `Nobody has answered yet. The call ends by itself ${joinTimeoutSeconds} seconds after dialling; with \`whenJoined\` it is hung up as soon as somebody answers.`,
  );
}
