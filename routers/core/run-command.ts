import type { TRPCError } from "@trpc/server";
import { isDeadlock, isStalePlan, type Tx } from "../../db/client.ts";
import { recordAudit } from "./audit.ts";
import type { Context, Principal } from "./context.ts";
import { ApiError } from "./errors.ts";
import { type Answer, type Claim, claimKey, fingerprintOf, storeAnswer } from "./idempotency.ts";
import { redact } from "./redact.ts";

type Commanding = Context & { principal: Principal; parsedInput: unknown };

/** The one way of a command: an earlier answer, or the work with its audit row and the answer to keep, in one commit. */
export async function runCommand<R extends { ok: true; data: unknown } | { ok: false; error: TRPCError }>(
  ctx: Commanding,
  path: string,
  transact: <T>(work: (tx: Tx) => Promise<T>) => Promise<T>,
  work: (tx: Tx) => Promise<R>,
) {
  const claim = idempotencyClaim(ctx, path);
  const ring = claim ? await ctx.providers.vault.keys(ctx.principal.clientId, "idempotency") : null;
  const once = async (tx: Tx) => {
    const earlier = claim && ring ? await claimKey(tx, claim, ring) : null;
    if (earlier) return { ok: true as const, data: replay(ctx, earlier), marker: answered };
    const result = await work(tx);
    // tRPC hands errors back as values: they are thrown on, so that the transaction hears of them.
    if (!result.ok) throw result.error;
    const audit = {
      actor: ctx.principal.id,
      action: path,
      subjectId: subjectIdOf(result.data) ?? subjectIdOf(ctx.parsedInput),
      input: redactedInput(ctx, path),
      requestId: ctx.requestId,
    };
    const stored = claim && ring && storeAnswer(tx, claim, ring, { status: 200, data: result.data });
    await Promise.all([recordAudit(tx, audit), stored]);
    return result;
  };
  return withTransactionRetry(() => transact(once));
}

const deadlocksBorne = 2;
const stalePlansBorne = 50;

/**
 * Begins a transaction again that Postgres has ended through no fault of its own, and of which nothing is left: two waited
 * for each other crosswise, or a table has changed under a prepared statement, of which each connection may have one.
 */
export async function withTransactionRetry<T>(begin: () => Promise<T>): Promise<T> {
  let [deadlocks, stalePlans] = [0, 0];
  for (;;) {
    try {
      return await begin();
    } catch (error) {
      if (isDeadlock(error) && deadlocks++ < deadlocksBorne) continue;
      if (isStalePlan(error) && stalePlans++ < stalePlansBorne) continue;
      throw error;
    }
  }
}

// tRPC asks for this mark on what a middleware returns without calling next; its value is never read.
const answered = "middlewareMarker" as never;

export function idempotencyClaim(
  ctx: Context & { principal: Principal; parsedInput: unknown },
  path: string,
): Claim | null {
  const key = ctx.idempotencyKey();
  if (key === null) return null;
  const fingerprint = fingerprintOf(ctx.signingSecret, path, ctx.parsedInput);
  return { principal: ctx.principal.idempotencyOwner, key, fingerprint, requestId: ctx.requestId };
}

export function replay(ctx: Context, { answer, requestId }: { answer: Answer; requestId: string }): unknown {
  ctx.reply.firstRequestId = requestId;
  ctx.unspend();
  return toResult(answer);
}

/** When to come again is of the moment, and so no part of what is stored. */
export function toResult(answer: Answer, retryAfterSeconds?: number): unknown {
  if (!("fault" in answer)) return answer.data;
  const { fault, message, details } = answer;
  throw new ApiError(fault, message, {
    ...(details ? { details } : {}),
    ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
  });
}

export function redactedInput(ctx: Context & { parsedInput: unknown }, path: string): unknown {
  const schema = ctx.inputOf(path);
  return schema ? redact(schema, ctx.parsedInput) : {};
}

export function subjectIdOf(value: unknown): string | null {
  return typeof value === "object" && value !== null && "id" in value && typeof value.id === "string" ? value.id : null;
}
