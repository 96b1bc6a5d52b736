import type { TRPCError } from "@trpc/server";
import { isDeadlock, isStalePlan, type Tx, withCommit } from "../../db/client.ts";
import { recordAudit } from "./audit.ts";
import type { Context, Principal } from "./context.ts";
import { ApiError } from "./errors.ts";
import { type Answer, type Claim, claimKey, fingerprintOf, storeAnswer } from "./idempotency.ts";
import { redact } from "./redact.ts";

type CommandContext = Context & { principal: Principal; parsedInput: unknown };

/** Runs a command: replays an earlier response, or commits the work with its audit row and the response to store. */
export async function runCommand<R extends { ok: true; data: unknown } | { ok: false; error: TRPCError }>(
  ctx: CommandContext,
  path: string,
  transact: <T>(work: (tx: Tx) => Promise<T>) => Promise<T>,
  work: (tx: Tx) => Promise<R>,
) {
  const claim = idempotencyClaim(ctx, path);
  const cipher = claim ? await ctx.providers.vault.keys(ctx.principal.clientId, "idempotency") : null;
  const once = async (tx: Tx) => {
    const earlier = claim && cipher ? await claimKey(tx, claim, cipher) : null;
    if (earlier) return { ok: true as const, data: replay(ctx, earlier), marker: replayed };
    const result = await work(tx);
    // tRPC returns errors as values: thrown here, so that the transaction rolls back.
    if (!result.ok) throw result.error;
    const audit = {
      actor: ctx.principal.id,
      action: path,
      subjectId: subjectIdOf(result.data) ?? subjectIdOf(ctx.parsedInput),
      input: redactedInput(ctx, path),
      requestId: ctx.requestId,
    };
    withCommit(tx, () => recordAudit(tx, audit));
    if (claim && cipher) withCommit(tx, () => storeAnswer(tx, claim, cipher, { status: 200, data: result.data }));
    return result;
  };
  return withTransactionRetry(() => transact(once));
}

const maxDeadlocks = 2;
const maxStalePlans = 50;

/**
 * Retries a transaction that Postgres rolled back for a reason outside it: a deadlock, or a prepared statement whose table
 * has changed, of which each connection can have one.
 */
export async function withTransactionRetry<T>(transaction: () => Promise<T>): Promise<T> {
  let [deadlocks, stalePlans] = [0, 0];
  for (;;) {
    try {
      return await transaction();
    } catch (error) {
      if (isDeadlock(error) && deadlocks++ < maxDeadlocks) continue;
      if (isStalePlan(error) && stalePlans++ < maxStalePlans) continue;
      throw error;
    }
  }
}

// tRPC requires this marker on a result that a middleware returns without calling next. Its value is never read.
const replayed = "middlewareMarker" as never;

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

/** Throws a stored error. `retryAfterSeconds` depends on the moment, and so is not stored. */
export function toResult(answer: Answer, retryAfterSeconds?: number): unknown {
  if (!("error" in answer)) return answer.data;
  const { error, message, details } = answer;
  throw new ApiError(error, message, { details, retryAfterSeconds });
}

export function redactedInput(ctx: Context & { parsedInput: unknown }, path: string): unknown {
  const schema = ctx.inputOf(path);
  return schema ? redact(schema, ctx.parsedInput) : {};
}

export function subjectIdOf(value: unknown): string | null {
  return typeof value === "object" && value !== null && "id" in value && typeof value.id === "string" ? value.id : null;
}
