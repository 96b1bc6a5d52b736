import { initTRPC } from "@trpc/server";
import type { Tx } from "../../db/client.ts";
import type { Deadline } from "../ports/provider-error.ts";
import { callProvider, type Settlement } from "./attempt-provider-command.ts";
import { recordAudit } from "./audit.ts";
import {
  admitAgain,
  authorizeSystem,
  authorizeTenant,
  membershipChecks,
  parseInput,
  platformClientId,
  targetOf,
} from "./authorize.ts";
import { fromProviderError, noCipher, type ProviderQuery, retryWhileBusy, withSignedLinks } from "./call-provider.ts";
import { completeMeta, statedBy } from "./complete-metadata.ts";
import { type Context, type Person, type Principal, unknownPersonError } from "./context.ts";
import { ApiError, docUrl, toApiError } from "./errors.ts";
import type { Follower } from "./event-followers.ts";
import { answerReserved, claimKey, giveUpKey, reserveKey } from "./idempotency.ts";
import { answerForDead, markIntentUnknown, openIntent, providerDeadlineSeconds, settleIntent } from "./intents.ts";
import type { ListKey } from "./pagination.ts";
import type { AnyProviderCommand, ProviderCommand } from "./provider-command.ts";
import type { Chunks } from "./reply.ts";
import { clientOwning, existingClient, invitingClient } from "./resolve-client.ts";
import type { Access, Meta } from "./rest-metadata.ts";
import {
  idempotencyClaim,
  redactedInput,
  replay,
  runCommand,
  subjectIdOf,
  toResult,
  withTransactionRetry,
} from "./run-command.ts";
import { bounded, Cut, inBase64, safeToAbandon, streamSeconds } from "./stream.ts";

const t = initTRPC
  .context<Context>()
  .meta<Meta>()
  .create({
    // Below the time after which balancers cut a line that is silent. Without one for so long the client asks again.
    sse: { ping: { enabled: true, intervalMs: 15_000 }, client: { reconnectAfterInactivityMs: 40_000 } },
    errorFormatter: ({ shape, error, ctx }) => {
      const fault = toApiError(error);
      const { details } = fault;
      return {
        message: fault.message,
        code: shape.code,
        data: {
          code: fault.errorCode,
          httpStatus: fault.status,
          requestId: ctx?.requestId,
          docUrl: docUrl(fault.errorCode),
          ...(details ? { details } : {}),
        },
      };
    },
  });

export const router = t.router;

/**
 * Every builder begins here. It statuses who may call, and whose rows are seen. A procedure that does not status the rest
 * is refused when it is called, and stops the start: see `requireComplete`.
 */
function accessible(access: Access) {
  const complete = t.middleware(({ path, meta, next }) => next({ ctx: { door: completeMeta(path, meta, access) } }));
  for (const middleware of complete._middlewares) statedBy(middleware, access);
  return t.procedure.meta({ access } as Meta).use(complete); // the procedure's own metadata is merged into it
}

/** Before a client is chosen: the caller himself and his own memberships. */
export const selfQuery = accessible("self").use(async ({ ctx, next }) => {
  const caller = await ctx.authenticate();
  if (caller.kind === "service")
    throw new ApiError("scope_missing", "A service is nobody: it has no clients of its own.");
  if (caller.kind === "stranger") throw unknownPersonError();
  const { limit } = ctx.door;
  if (caller.kind === "key") ctx.spend(caller.keyId, limit, caller.clientId);
  else ctx.spend(caller.userId, limit);
  return next({ ctx: { caller } });
});

/** Reads what stands over all clients. */
const readingAll = (access: "operator" | "service") =>
  accessible(access).use(async (asked) => {
    const { ctx, path, next } = asked;
    await authorizeSystem(asked);
    const { cursor: _, limit: __, ...filters } = ((await parseInput(asked)) ?? {}) as Record<string, unknown>;
    const listKey: ListKey = { secret: ctx.signingSecret, clientId: platformClientId, procedure: path, filters };
    return ctx.db.asSystem(
      async (tx) => {
        const result = await next({ ctx: { tx, listKey } });
        if (!result.ok) throw result.error;
        return result;
      },
      { mode: "read", requestId: ctx.requestId },
    );
  });

/** An operator reads over all clients. */
export const operatorQuery = readingAll("operator");

/** One of the installation's own services reads over all clients. */
export const serviceQuery = readingAll("service");

/** The operator's command: one transaction of the house, replay-safe, audited under the operator's own client. */
export const operatorCommand = accessible("operator").use(async (asked) => {
  const admitted = await authorizeSystem(asked);
  const parsedInput = await parseInput(asked);
  const principal: Principal = {
    ...{ ...admitted, clientId: platformClientId, scopes: [] },
    // These rows all stand under the operator's client: the client that the command is about tells the keys apart.
    idempotencyOwner: [admitted.id, ...targetOf(parsedInput)].join(" "),
  };
  const ctx = { ...asked.ctx, principal, parsedInput };
  return runCommand(
    ctx,
    asked.path,
    (work) => ctx.db.asSystem(work, { requestId: ctx.requestId, clientId: platformClientId }),
    (tx) => asked.next({ ctx: { principal, tx } }),
  );
});

/** A person's command before he belongs to a client: a transaction of the house, whose rows are the client's that `chooses` names. */
export const selfCommand = accessible("self").use(async (asked) => {
  const { ctx } = asked;
  const caller = await ctx.authenticate();
  if (caller.kind === "key" || caller.kind === "service") {
    throw new ApiError("client_forbidden", "This takes a person's own token, not an API key.");
  }
  ctx.spend(caller.subject, ctx.door.limit);
  const parsedInput = await parseInput(asked);
  const clientId = await ctx.db.asSystem((tx) => invitingClient(tx, ctx.hashKey, parsedInput), { mode: "read" });
  // Not by the user's id: with the first answer a stranger has become a user, and his second request is the same one.
  const id = `person:${caller.subject}`;
  const principal: Principal = { id, kind: caller.kind, clientId, scopes: [], idempotencyOwner: id };
  return runCommand(
    { ...ctx, principal, parsedInput },
    asked.path,
    (work) => ctx.db.asSystem(work, { requestId: ctx.requestId, clientId }),
    (tx) => asked.next({ ctx: { tx, person: caller as Person } }),
  );
});

/**
 * A command of the house about one thing, which the input's `id` names: a transaction of the client that owns it, audited
 * there. `ownerOf`: whose it is, in a transaction of the house; throws the fault of the kind when it is nobody's.
 */
const commandForOwner = (access: "operator" | "service", ownerOf: (tx: Tx, id: string) => Promise<string>) =>
  accessible(access).use(async (asked) => {
    const admitted = await authorizeSystem(asked);
    const parsedInput = await parseInput(asked);
    const { db, requestId } = asked.ctx;
    const { id } = parsedInput as { id: string };
    const clientId = await db.asSystem((tx) => ownerOf(tx, id), { mode: "read", requestId });
    const principal: Principal = { ...admitted, clientId, scopes: [], idempotencyOwner: admitted.id };
    return runCommand(
      { ...asked.ctx, principal, parsedInput },
      asked.path,
      (work) => db.asClient({ clientId, requestId }, work),
      (tx) => asked.next({ ctx: { principal, tx } }),
    );
  });

/** A service's command about one thing of a client. */
export const serviceCommand = commandForOwner("service", clientOwning);

/** An operator's command about one client. */
export const operatorClientCommand = commandForOwner("operator", existingClient);

/** Reads inside the wall. */
export const query = accessible("tenant").use(async (asked) => {
  const { ctx, path, next } = asked;
  const { principal, entry } = await authorizeTenant(asked);
  const { cursor: _, limit: __, ...filters } = ((await parseInput(asked)) ?? {}) as Record<string, unknown>;
  const listKey: ListKey = { secret: ctx.signingSecret, clientId: principal.clientId, procedure: path, filters };
  return ctx.db.asClient(
    entry,
    async (tx) => {
      const result = await next({ ctx: { principal, tx, listKey } });
      // tRPC hands errors back as values: they are thrown on, so that the transaction hears of them.
      if (!result.ok) throw result.error;
      return result;
    },
    { mode: "read" },
  );
});

/**
 * Answers a stream, of the type that `produces` says. No transaction is open while bytes go out: `ctx.page` runs one short
 * read transaction, in which the key is looked at again, and a long list is read by keyset, a page at a time. `ctx.deadline`
 * ends when the caller hangs up, or after half an hour. What fails before the first piece is answered like any failure; what
 * fails later breaks the line. On /trpc it takes httpBatchStreamLink, as `edge/client.ts` has it.
 */
export const stream = accessible("tenant").use(async (asked) => {
  const { ctx, next, signal } = asked;
  const { principal, entry } = await authorizeTenant(asked);
  await parseInput(asked);
  if (ctx.transport === "trpc" && !ctx.takesStream) {
    throw new ApiError(
      "header_invalid",
      "This answer is a stream. Send `trpc-accept: application/jsonl`: httpBatchStreamLink.",
    );
  }
  const checked = membershipChecks(asked, principal);
  const page = async <T>(work: (tx: Tx) => Promise<T>) => {
    await checked();
    return ctx.db.asClient(entry, work, { mode: "read" });
  };
  const over = AbortSignal.timeout(streamSeconds * 1000);
  const deadline: Deadline = { signal: signal ? AbortSignal.any([signal, over]) : over };
  const close = ctx.streams.take(principal.id, principal.clientId);
  deadline.signal.addEventListener("abort", close, { once: true }); // also where nobody ever reads the first piece
  const result = await next({ ctx: { principal, page, deadline } });
  if (!result.ok) {
    close();
    throw fromProviderError(result.error.cause) ?? result.error;
  }
  const given = result.data as Chunks;
  const pieces = bounded(given, deadline.signal, (error) => fromProviderError(error) ?? error, close);
  const data = { ...given, chunks: ctx.transport === "trpc" ? inBase64(pieces) : pieces };
  const answer: typeof result = { ...result, data }; // its type alone carries what the context has been given
  return answer;
});

/**
 * A subscription: events of the client as they are stated, by `ctx.follower`. No transaction is open while it waits. Every
 * look asks anew whether the key still holds; a person's token, membership and scope are asked for every few seconds. A
 * token that has run out cuts the line, so that the client comes back with a fresh one; all else ends it with its fault.
 */
export const liveQuery = accessible("tenant").use(async (asked) => {
  const { ctx, path, next } = asked;
  const { principal, entry } = await authorizeTenant(asked);
  await parseInput(asked);
  const check = async () => {
    const caller = await ctx.authenticate("anew").catch((error: unknown) => {
      throw principal.kind === "user" && toApiError(error).errorCode === "unauthenticated"
        ? new Cut("token run out")
        : error;
    });
    await admitAgain(asked, caller, principal);
  };
  const follower: Follower = {
    enter: () => ctx.live.enter(principal.id, principal.clientId),
    page: (work) => ctx.db.asClient(entry, work, { mode: "read" }),
    check,
    key: { secret: ctx.signingSecret, clientId: principal.clientId, procedure: path, filters: {} },
    signal: asked.signal ?? new AbortController().signal,
  };
  const result = await next({ ctx: { principal, follower } });
  if (!result.ok) return result;
  const answer: typeof result = { ...result, data: safeToAbandon(result.data as AsyncIterable<unknown>) };
  return answer;
});

/** Reads one row in one statement: for the hottest doors. Nothing is opened for it, so its input is parsed once. */
export const singleRowQuery = accessible("tenant").use(async (asked) => {
  const { entry } = await authorizeTenant(asked);
  const { db } = asked.ctx;
  return asked.next({
    ctx: { readOne: (body: string, parameters: readonly unknown[]) => db.readOne(entry, body, parameters) },
  });
});

/** One transaction: all of it or none. Replay-safe, and audited under its own name in the same commit. */
export const command = accessible("tenant").use(async (asked) => {
  const { principal, entry } = await authorizeTenant(asked);
  const ctx = { ...asked.ctx, principal, parsedInput: await parseInput(asked) };
  const { vault: purpose, signs } = asked.ctx.door;
  const ring = purpose ? await ctx.providers.vault.keys(principal.clientId, purpose) : noCipher;
  const result = await runCommand(
    ctx,
    asked.path,
    (work) => ctx.db.asClient(entry, work),
    (tx) => asked.next({ ctx: { principal, tx, ring } }),
  );
  return signs && result.ok ? { ...result, data: await withSignedLinks(ctx, result.data) } : result;
});

/** Asks a provider before it answers. `ctx.perform` takes the three steps; a replay never comes so far. */
export const providerCommand = accessible("tenant").use(async (asked) => {
  const { path, next } = asked;
  const { principal, entry } = await authorizeTenant(asked);
  const ctx = { ...asked.ctx, principal, entry, parsedInput: await parseInput(asked) };
  const claim = idempotencyClaim(ctx, path);
  const ring = claim ? await ctx.providers.vault.keys(ctx.principal.clientId, "idempotency") : null;

  async function perform<I, A, G, O>(what: ProviderCommand<I, A, G, O>, input: I): Promise<O> {
    const anyOutbound = what as unknown as AnyProviderCommand;
    const open = () =>
      ctx.db.asClient(ctx.entry, async (tx) => {
        const dead = (intentId: string) => answerForDead(tx, anyOutbound, intentId);
        const earlier = claim && ring ? await claimKey(tx, claim, ring, dead) : null;
        if (earlier) return { earlier };
        const opening = {
          principal: ctx.principal.id,
          claim,
          requestId: ctx.requestId,
          auditInput: redactedInput(ctx, path),
        };
        return { earlier: null, ...(await openIntent(tx, what, input, ctx.principal.clientId, opening)) };
      });
    const opened = await retryWhileBusy(what.busyCode, what.waitWhileBusySeconds, () => withTransactionRetry(open));
    if (opened.earlier) {
      if (opened.earlier.answer.status === 202) ctx.reply.status = 202; // of a request that has died: it is not settled yet
      return replay(ctx, opened.earlier) as O;
    }

    // From here on the request is not the only one who may settle: a key revoked meanwhile changes nothing any more.
    const own = { clientId: principal.clientId, requestId: ctx.requestId };
    const deadline = { signal: AbortSignal.timeout(providerDeadlineSeconds * 1000) };
    const { providerAccountId: accountId, asked: wanted } = opened;
    const call = { providers: ctx.providers, accountId, asked: wanted, deadline, log: ctx.log() };
    const settlement = await callProvider(what, call);
    if (!settlement) {
      const answer = await markIntentUnknown(ctx.db, own, anyOutbound, opened, ring);
      ctx.reply.status = answer.status;
      return toResult(answer) as O;
    }
    const answer = await withTransactionRetry(() =>
      ctx.db.asClient(own, (tx) =>
        settleIntent(tx, anyOutbound, opened.intentId, settlement as Settlement<never>, ring),
      ),
    );
    return toResult(answer, "retryAfterSeconds" in settlement ? settlement.retryAfterSeconds : undefined) as O;
  }

  return next({ ctx: { perform } });
});

/**
 * For what may be asked twice without harm, and leaves nothing open when nobody answers. Unlike an outbound it writes no
 * intent: should the process die in between, nothing has happened, and the same key asks anew after a minute.
 */
export const providerQuery = accessible("tenant").use(async (asked) => {
  const { path, next, type } = asked;
  const { principal, entry } = await authorizeTenant(asked);
  const ctx = { ...asked.ctx, principal, entry, parsedInput: await parseInput(asked) };
  const claim = type === "mutation" ? idempotencyClaim(ctx, path) : null;
  const { vault } = ctx.providers;
  const ring = claim ? await vault.keys(principal.clientId, "idempotency") : null;
  const { vault: purpose, signs } = asked.ctx.door;
  const own = purpose ? await vault.keys(principal.clientId, purpose) : noCipher;

  async function consult<A, G, O = G>(what: ProviderQuery<A, G, O>): Promise<O> {
    const begin = async (tx: Tx) => {
      const earlier = claim && ring ? await claimKey(tx, claim, ring) : null;
      if (earlier) return { earlier };
      const read = await what.read(tx);
      if (claim) await reserveKey(tx, claim, null);
      return { earlier: null, read };
    };
    const began = await withTransactionRetry(() => ctx.db.asClient(entry, begin, { mode: claim ? "write" : "read" }));
    if (began.earlier) return replay(ctx, began.earlier) as O;
    const { read } = began;
    try {
      const got = await what.execute(read, { signal: AbortSignal.timeout(providerDeadlineSeconds * 1000) });
      if (!what.record && !claim) return got as unknown as O;
      const recorded = async (tx: Tx) => {
        const answer = what.record ? await what.record(tx, read, got) : (got as unknown as O);
        if (type === "mutation" && !asked.ctx.door.reads) {
          const subjectId = subjectIdOf(answer) ?? subjectIdOf(ctx.parsedInput);
          const input = redactedInput(ctx, path);
          await recordAudit(tx, { actor: principal.id, action: path, subjectId, input, requestId: ctx.requestId });
        }
        if (claim && ring) await answerReserved(tx, claim, ring, { status: 200, data: answer });
        return answer;
      };
      return await withTransactionRetry(() => ctx.db.asClient(entry, recorded));
    } catch (error) {
      if (claim) await ctx.db.asClient(entry, (tx) => giveUpKey(tx, claim));
      throw fromProviderError(error) ?? error;
    }
  }

  const result = await next({ ctx: { principal, ring: own, consult } });
  return signs && result.ok ? { ...result, data: await withSignedLinks(ctx, result.data) } : result;
});
