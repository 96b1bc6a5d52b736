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

async function findCall(tx: Tx, id: string): Promise<CallRow> {
  const [call] = await tx.select().from(calls).where(eq(calls.id, id));
  if (!call) throw callNotFound(id);
  return call;
}

async function lookUp(ultravox: Ultravox, call: CallRow, deadline: Deadline): Promise<ProviderCall | null> {
  if (!call.providerCallId || call.erasedAt) return null;
  return ultravox.getCall(call.providerAccountId, call.providerCallId, deadline);
}

/** Gets the provider's state of a call and applies it. A call that is not at the provider yet is returned unchanged. */
export function refreshCall(ultravox: Ultravox, id: string): ProviderQuery<CallRow, ProviderCall | null, Call> {
  return {
    read: (tx) => findCall(tx, id),
    execute: (call, deadline) => lookUp(ultravox, call, deadline),
    async record(tx, _call, reported) {
      // While the intent of the call is open, the intent applies the outcome.
      if (reported && !(await openIntentOf(tx, id))) await applyProviderCall(tx, id, reported, "lookup");
      return getCall(tx, id);
    },
  };
}

type HangUpResult = { done: boolean; reported: ProviderCall | null };

/** Ends a call. A ringing call cannot be ended; with `whenJoined` it is ended as soon as it is answered. */
export function hangUpCall(ultravox: Ultravox, { id, whenJoined }: HangUp): ProviderQuery<CallRow, HangUpResult, Call> {
  return {
    async read(tx) {
      const call = await findCall(tx, id);
      if (hasEnded(call)) throw alreadyOver(call);
      return call;
    },
    async execute(call, deadline) {
      if (!call.providerCallId) return { done: false, reported: null };
      const { providerAccountId, providerCallId } = call;
      const done = (await ultravox.hangUp(providerAccountId, providerCallId, deadline)) === "done";
      // A call that the provider refuses to end may have ended, or was answered at this moment.
      return { done, reported: await lookUp(ultravox, call, deadline) };
    },
    async record(tx, _call, { done, reported }) {
      if (reported && !(await openIntentOf(tx, id))) await applyProviderCall(tx, id, reported, "lookup");
      const call = await lockCall(tx, id);
      if (done) return getCall(tx, id);
      if (hasEnded(call)) throw alreadyOver(call);
      if (!whenJoined) throw notEndedYet(call);
      await tx.update(calls).set({ hangUpWhenJoined: true }).where(eq(calls.id, id));
      if (call.status === "active") await enqueue(tx, "calls.hangUp", { callId: id }, { key: id });
      return getCall(tx, id);
    },
  };
}

const hasEnded = ({ status }: CallRow) => status === "ended" || status === "failed";

const alreadyOver = ({ status }: CallRow) =>
  new ApiError("call_not_joined", `The call has ${status} already. There is nothing to hang up.`);

function notEndedYet({ status, joinTimeoutSeconds }: CallRow): ApiError {
  if (status === "active") {
    return new ApiError("call_not_joined", "The voice provider did not end the call. Try again in a moment.");
  }
  return new ApiError(
    "call_not_joined",
    `The call has not been answered yet. It ends ${joinTimeoutSeconds} seconds after dialling. Pass \`whenJoined\` to hang up as soon as it is answered.`,
  );
}
