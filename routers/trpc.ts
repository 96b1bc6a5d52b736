import { setTimeout as sleep } from "node:timers/promises";
import { initTRPC, TRPCError } from "@trpc/server";
import type { Logger } from "pino";
import type { z } from "zod";
import { type Database, type Entry, isDeadlock, isStalePlan, type Tx } from "../db/client.ts";
import { redact } from "./audit/redact.ts";
import { recordAudit } from "./audit/service.ts";
import type { Follower } from "./events/follow.ts";
import { asFault, docUrl, Fault, type FaultCode } from "./fault.ts";
import {
  type Answer,
  answerReserved,
  type Claim,
  claimKey,
  fingerprintOf,
  giveUpKey,
  reserveKey,
  storeAnswer,
} from "./idempotency/service.ts";
import type { AnyOutbound } from "./intents/kinds.ts";
import type { Outbound } from "./intents/outbound.ts";
import { loseIntent, openIntent, providerDeadlineSeconds, type Settlement, settle } from "./intents/service.ts";
import type { LimitClass } from "./limits.ts";
import type { Live } from "./live.ts";
import { clientInvited, clientOf } from "./owners.ts";
import type { ListKey } from "./page.ts";
import { type Deadline, ProviderError } from "./providers/provider.ts";
import { type KeyRing, KeysUnavailable } from "./providers/vault.ts";
import type { Providers } from "./providers.ts";
import type { Chunks, Reply } from "./reply.ts";
import type { Meta } from "./rest.ts";
import { grants, type HouseScope, houseScopes } from "./scopes.ts";
import { bounded, Cut, inBase64, streamSeconds } from "./stream.ts";
import { signLinks } from "./uploads/service.ts";

/** Who calls, before a client is chosen. */
export type Caller =
  | { kind: "key"; keyId: string; clientId: string; scopes: readonly string[] }
  | {
      kind: "user";
      userId: string;
      subject: string;
      /** In lower case; null where the identity provider has verified none. */
      email: string | null;
      name: string | null;
      clientIds: readonly string[];
      scopes: readonly string[] | null;
      /** An operator of the installation. */
      platform: boolean;
    }
  /** Somebody with a good token whom nobody here knows: he may accept an invitation, and nothing else. */
  | { kind: "stranger"; subject: string; email: string | null; name: string | null }
  /** One of the installation's own services, by the credential of the environment. */
  | { kind: "service"; name: string };

export const unknownPerson = () => new Fault("unauthenticated", "The token is good, but nobody here is known by it.");

/** Who acts, for which client, and what he may do. */
export type Principal = {
  /** As in audit rows and idempotency keys: `key_…`, `user_…` or `service:…`. */
  id: string;
  kind: Caller["kind"];
  clientId: string;
  scopes: readonly string[];
};

export type Context = {
  requestId: string;
  transport: "rest" | "trpc";
  /** On /trpc: the caller reads answers that come bit by bit. */
  takesStream: boolean;
  reply: Reply;
  /** Throws Fault `invalid_header`, or `batch_not_allowed` where one key would stand for several mutations. */
  idempotencyKey: () => string | null;
  /** Throws Fault `unauthenticated`. Asked once in a request, unless `anew`: a token may run out while a stream goes on. */
  authenticate: (anew?: "anew") => Promise<Caller>;
  /** Throws Fault `client_required` or `client_forbidden`. */
  choosePrincipal: (caller: Caller) => Promise<Principal>;
  /** Throws Fault `limit_exceeded`; says in the reply's headers what is left. */
  spend: (principalId: string, limit: LimitClass) => void;
  /** A replay takes no quota. */
  unspend: () => void;
  /** The input schema of a procedure: the builders parse before a transaction opens, and redact for the audit. */
  inputOf: (path: string) => z.ZodType | undefined;
  db: Database;
  providers: Providers;
  live: Live;
  /** For cursors and fingerprints: what is signed with it says which of the two it is. */
  signingSecret: Buffer;
  /** HMAC of an API key under the installation's pepper. */
  hashKey: (key: string) => string;
  /** With the request's id, and its client's once that is known. */
  log: () => Logger;
};

const t = initTRPC
  .context<Context>()
  .meta<Meta>()
  .create({
    // Below the time after which balancers cut a line that is silent. Without one for so long the client asks again.
    sse: { ping: { enabled: true, intervalMs: 15_000 }, client: { reconnectAfterInactivityMs: 40_000 } },
    errorFormatter: ({ shape, error, ctx }) => {
      const fault = asFault(error);
      const { details } = fault;
      return {
        message: fault.message,
        code: shape.code,
        data: {
          code: fault.fault,
          httpStatus: fault.status,
          requestId: ctx?.requestId,
          docUrl: docUrl(fault.fault),
          ...(details ? { details } : {}),
        },
      };
    },
  });

export const router = t.router;

const door = (meta: Meta | undefined): Meta => {
  if (!meta) throw new Error("A procedure without meta has no door.");
  return meta;
};

/** Before a client is chosen: the caller himself and his own memberships. */
export const ownQuery = t.procedure.use(async ({ ctx, next }) => {
  const caller = await ctx.authenticate();
  if (caller.kind === "service") throw new Fault("scope_missing", "A service is nobody: it has no clients of its own.");
  if (caller.kind === "stranger") throw unknownPerson();
  ctx.spend(caller.kind === "key" ? caller.keyId : caller.userId, "read");
  return next({ ctx: { caller } });
});

type Asked = { ctx: Context; meta: Meta | undefined };

/** Who may come in: the caller is known, his client chosen, his scope looked at, his limit spent. */
async function admit({ ctx, meta }: Asked) {
  const { scope, limit, wall } = door(meta);
  if (!scope || wall !== "client") throw new Error("This procedure is no client's: it wants another builder.");
  const principal = await ctx.choosePrincipal(await ctx.authenticate());
  if (!grants(principal.scopes, scope))
    throw new Fault("scope_missing", `This takes the scope ${scope}, which you do not have.`);
  ctx.spend(principal.id, limit);
  return { principal, entry: entryOf(principal, ctx.requestId) };
}

/** The operator: his audit and his idempotency keys stand under a client of his own. */
export const platformClientId = "client_00000000000000000000000000";

/** Who may come in from the house: an operator at his doors, a service at its own. */
async function admitToHouse({ ctx, meta }: Asked) {
  const { scope, limit, wall } = door(meta);
  const caller = await ctx.authenticate();
  if (caller.kind === "stranger") throw unknownPerson();
  if (wall === "house" && !(caller.kind === "user" && caller.platform)) throw new Fault("platform_required");
  if (wall === "owner" && caller.kind !== "service") {
    throw new Fault("scope_missing", `This takes the scope ${scope}, which only a service of this installation has.`);
  }
  const own =
    caller.kind === "user"
      ? caller.scopes?.filter((held): held is HouseScope => (houseScopes as readonly string[]).includes(held))
      : null;
  if (own && own.length > 0 && !own.some((held) => held === scope))
    throw new Fault("scope_missing", `This takes the scope ${scope}, which your token does not carry.`);
  const id =
    caller.kind === "user" ? caller.userId : caller.kind === "service" ? `service:${caller.name}` : caller.keyId;
  ctx.spend(id, limit);
  return { id, kind: caller.kind };
}

/**
 * Parses before anything is opened, and not before the caller is known: what a stranger sends is not looked at.
 * The procedure's own parser runs again and gives the resolver its types.
 */
async function parse({ ctx, path, getRawInput }: { ctx: Context; path: string; getRawInput: () => Promise<unknown> }) {
  const schema = ctx.inputOf(path);
  const result = schema
    ? await schema.safeParseAsync(await getRawInput())
    : { success: true as const, data: undefined };
  if (!result.success) throw new TRPCError({ code: "BAD_REQUEST", cause: result.error });
  refuseNul(result.data, []);
  return result.data;
}

/** The one character of a JSON text that the database cannot keep. */
function refuseNul(value: unknown, at: string[]): void {
  if (typeof value === "string" && value.includes("\0")) {
    const [path, message] = [at.join("."), "A text must not hold the character U+0000."];
    throw new Fault("invalid_input", `${path}: ${message}`, { details: [{ path, message }] });
  }
  if (typeof value !== "object" || value === null) return;
  for (const [name, inner] of Object.entries(value)) refuseNul(inner, [...at, name]);
}

const entryOf = (principal: Principal, requestId: string): Entry => {
  return { clientId: principal.clientId, keyId: principal.kind === "key" ? principal.id : null, requestId };
};

/** Reads what stands over all clients: the operator's doors, and those that list for the installation's own services. */
export const houseQuery = t.procedure.use(async (asked) => {
  const { ctx, path, next } = asked;
  await admitToHouse(asked);
  const { cursor: _, limit: __, ...filters } = ((await parse(asked)) ?? {}) as Record<string, unknown>;
  const listKey: ListKey = { secret: ctx.signingSecret, clientId: platformClientId, procedure: path, filters };
  return ctx.db.asHouse(
    async (tx) => {
      const result = await next({ ctx: { tx, listKey } });
      if (!result.ok) throw result.error;
      return result;
    },
    { mode: "read", requestId: ctx.requestId },
  );
});

/** The operator's command: one transaction of the house, replay-safe, audited under the operator's own client. */
export const houseCommand = t.procedure.use(async (asked) => {
  const admitted = await admitToHouse(asked);
  const principal: Principal = { ...admitted, clientId: platformClientId, scopes: [] };
  const ctx = { ...asked.ctx, principal, parsedInput: await parse(asked) };
  return commit(
    ctx,
    asked.path,
    (work) => ctx.db.asHouse(work, { requestId: ctx.requestId, clientId: platformClientId }),
    (tx) => asked.next({ ctx: { principal, tx } }),
  );
});

export type Person = Extract<Caller, { kind: "user" | "stranger" }>;

/** A person's command before he belongs to a client: a transaction of the house, whose rows are the client's that `chooses` names. */
export const personCommand = t.procedure.use(async (asked) => {
  const { ctx } = asked;
  const caller = await ctx.authenticate();
  if (caller.kind === "key" || caller.kind === "service") {
    throw new Fault("client_forbidden", "This takes a person's own token, not an API key.");
  }
  ctx.spend(caller.subject, door(asked.meta).limit);
  const parsedInput = await parse(asked);
  const clientId = await ctx.db.asHouse((tx) => clientInvited(tx, ctx.hashKey, parsedInput), { mode: "read" });
  // Not by the user's id: with the first answer a stranger has become a user, and his second request is the same one.
  const principal: Principal = { id: `person:${caller.subject}`, kind: caller.kind, clientId, scopes: [] };
  return commit(
    { ...ctx, principal, parsedInput },
    asked.path,
    (work) => ctx.db.asHouse(work, { requestId: ctx.requestId, clientId }),
    (tx) => asked.next({ ctx: { tx, person: caller as Person } }),
  );
});

type OwnerLookup = { db: Database; requestId: string; input: unknown };

/** Whose it is that the input's `id` names. Throws the fault of the kind when it is nobody's. */
async function ownerOf({ db, requestId, input }: OwnerLookup): Promise<string> {
  const { id } = input as { id: string };
  return db.asHouse((tx) => clientOf(tx, id), { mode: "read", requestId });
}

/** A service's command about one thing: a transaction of the client that owns it, audited there. */
export const serviceCommand = t.procedure.use(async (asked) => {
  const admitted = await admitToHouse(asked);
  const parsedInput = await parse(asked);
  const { db, requestId } = asked.ctx;
  const clientId = await ownerOf({ db, requestId, input: parsedInput });
  const principal: Principal = { ...admitted, clientId, scopes: [] };
  const ctx = { ...asked.ctx, principal, parsedInput };
  return commit(
    ctx,
    asked.path,
    (work) => db.asClient({ clientId, requestId }, work),
    (tx) => asked.next({ ctx: { principal, tx } }),
  );
});

/** Reads inside the wall. */
export const query = t.procedure.use(async (asked) => {
  const { ctx, path, next } = asked;
  const { principal, entry } = await admit(asked);
  const { cursor: _, limit: __, ...filters } = ((await parse(asked)) ?? {}) as Record<string, unknown>;
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
export const stream = t.procedure.use(async (asked) => {
  const { ctx, next, signal } = asked;
  const { principal, entry } = await admit(asked);
  await parse(asked);
  if (ctx.transport === "trpc" && !ctx.takesStream) {
    throw new Fault(
      "invalid_header",
      "This answer is a stream. Send `trpc-accept: application/jsonl`: httpBatchStreamLink.",
    );
  }
  const page = <T>(work: (tx: Tx) => Promise<T>) => ctx.db.asClient(entry, work, { mode: "read" });
  const over = AbortSignal.timeout(streamSeconds * 1000);
  const deadline: Deadline = { signal: signal ? AbortSignal.any([signal, over]) : over };
  const result = await next({ ctx: { principal, page, deadline } });
  if (!result.ok) throw asHeard(result.error.cause) ?? result.error;
  const given = result.data as Chunks;
  const pieces = bounded(given, deadline.signal, (error) => asHeard(error) ?? error);
  const data = { ...given, chunks: ctx.transport === "trpc" ? inBase64(pieces) : pieces };
  const answer: typeof result = { ...result, data }; // its type alone carries what the context has been given
  return answer;
});

/**
 * A subscription: events of the client as they are stated, by `ctx.follower`. No transaction is open while it waits. Every
 * look asks anew whether the key still holds; a person's token, membership and scope are asked for every few seconds. A
 * token that has run out cuts the line, so that the client comes back with a fresh one; all else ends it with its fault.
 */
export const live = t.procedure.use(async (asked) => {
  const { ctx, meta, path, next } = asked;
  const { principal, entry } = await admit(asked);
  await parse(asked);
  const check = async () => {
    const caller = await ctx.authenticate("anew").catch((error: unknown) => {
      throw principal.kind === "user" && asFault(error).fault === "unauthenticated" ? new Cut("token run out") : error;
    });
    const present = await ctx.choosePrincipal(caller);
    const { scope } = door(meta);
    if (present.id !== principal.id || present.clientId !== principal.clientId) throw new Fault("unauthenticated");
    if (!scope || !grants(present.scopes, scope)) throw new Fault("scope_missing");
  };
  const follower: Follower = {
    enter: () => ctx.live.enter(principal.id, principal.clientId),
    page: (work) => ctx.db.asClient(entry, work, { mode: "read" }),
    check,
    key: { secret: ctx.signingSecret, clientId: principal.clientId, procedure: path, filters: {} },
    signal: asked.signal ?? new AbortController().signal,
  };
  return next({ ctx: { principal, follower } });
});

/** That our own key service is away is no failure of the provider's: `asFault` knows it. */
const asHeard = (error: unknown) =>
  error instanceof ProviderError && !(error instanceof KeysUnavailable) ? providerFault(error) : undefined;

/** Reads one row in one statement: for the hottest doors. Nothing is opened for it, so its input is parsed once. */
export const hotQuery = t.procedure.use(async (asked) => {
  const { entry } = await admit(asked);
  const { db } = asked.ctx;
  return asked.next({
    ctx: { readOne: (body: string, parameters: readonly unknown[]) => db.readOne(entry, body, parameters) },
  });
});

/** One transaction: all of it or none. Replay-safe, and audited under its own name in the same commit. */
export const command = t.procedure.use(async (asked) => {
  const { principal, entry } = await admit(asked);
  const ctx = { ...asked.ctx, principal, parsedInput: await parse(asked) };
  const { vault: purpose, signs } = door(asked.meta);
  const ring = purpose ? await ctx.providers.vault.keys(principal.clientId, purpose) : noRing;
  const result = await commit(
    ctx,
    asked.path,
    (work) => ctx.db.asClient(entry, work),
    (tx) => asked.next({ ctx: { principal, tx, ring } }),
  );
  return signs && result.ok ? { ...result, data: await signed(ctx, result.data) } : result;
});

type Commanding = Context & { principal: Principal; parsedInput: unknown };

/** The one way of a command: an earlier answer, or the work with its audit row and the answer to keep, in one commit. */
async function commit<R extends { ok: true; data: unknown } | { ok: false; error: TRPCError }>(
  ctx: Commanding,
  path: string,
  transact: <T>(work: (tx: Tx) => Promise<T>) => Promise<T>,
  work: (tx: Tx) => Promise<R>,
) {
  const claim = claimOf(ctx, path);
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
      subjectId: subjectOf(result.data) ?? subjectOf(ctx.parsedInput),
      input: redacted(ctx, path),
      requestId: ctx.requestId,
    };
    const stored = claim && ring && storeAnswer(tx, claim, ring, { status: 200, data: result.data });
    await Promise.all([recordAudit(tx, audit), stored]);
    return result;
  };
  return begunAgain(() => transact(once));
}

const deadlocksBorne = 2;
const stalePlansBorne = 50;

/**
 * Begins a transaction again that Postgres has ended through no fault of its own, and of which nothing is left: two waited
 * for each other crosswise, or a table has changed under a prepared statement, of which each connection may have one.
 */
async function begunAgain<T>(begin: () => Promise<T>): Promise<T> {
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

/** Asks a provider before it answers. `ctx.perform` takes the three steps; a replay never comes so far. */
export const outbound = t.procedure.use(async (asked) => {
  const { path, next } = asked;
  const { principal, entry } = await admit(asked);
  const ctx = { ...asked.ctx, principal, entry, parsedInput: await parse(asked) };
  const claim = claimOf(ctx, path);
  const ring = claim ? await ctx.providers.vault.keys(ctx.principal.clientId, "idempotency") : null;

  async function perform<I, A, G, O>(what: Outbound<I, A, G, O>, input: I): Promise<O> {
    const open = () =>
      ctx.db.asClient(ctx.entry, async (tx) => {
        const earlier = claim && ring ? await claimKey(tx, claim, ring) : null;
        if (earlier) return { earlier };
        const opening = {
          principal: ctx.principal.id,
          claim,
          requestId: ctx.requestId,
          auditInput: redacted(ctx, path),
        };
        return { earlier: null, ...(await openIntent(tx, what, input, ctx.principal.clientId, opening)) };
      });
    const opened = await patiently(what, () => begunAgain(open));
    if (opened.earlier) return replay(ctx, opened.earlier) as O;

    // From here on the request is not the only one who may settle: a key revoked meanwhile changes nothing any more.
    const own = { clientId: principal.clientId, requestId: ctx.requestId };
    const anyOutbound = what as unknown as AnyOutbound;
    const settlement = await ask(what, opened.providerAccountId, opened.asked, ctx);
    if (!settlement) {
      const answer = await loseIntent(ctx.db, own, anyOutbound, opened, ring);
      ctx.reply.status = answer.status;
      return give(answer) as O;
    }
    const answer = await begunAgain(() =>
      ctx.db.asClient(own, (tx) => settle(tx, anyOutbound, opened.intentId, settlement as Settlement<never>, ring)),
    );
    return give(answer, "retryAfterSeconds" in settlement ? settlement.retryAfterSeconds : undefined) as O;
  }

  return next({ ctx: { perform } });
});

/** What `ctx.consult` does: reads, asks somebody else's machine without a transaction open, records what it said. */
export type Consultation<A, G, O> = {
  read(tx: Tx): Promise<A>;
  /** May be asked twice. Throws ProviderError, or a Fault. */
  ask(asked: A, deadline: Deadline): Promise<G>;
  /** What is answered; without it, what was heard. May find that things have changed since they were read. */
  record?(tx: Tx, asked: A, got: G): Promise<O>;
};

/**
 * For what may be asked twice without harm, and leaves nothing open when nobody answers. Unlike an outbound it writes no
 * intent: should the process die in between, nothing has happened, and the same key asks anew after a minute.
 */
export const consultation = t.procedure.use(async (asked) => {
  const { path, next, type } = asked;
  const { principal, entry } = await admit(asked);
  const ctx = { ...asked.ctx, principal, entry, parsedInput: await parse(asked) };
  const claim = type === "mutation" ? claimOf(ctx, path) : null;
  const { vault } = ctx.providers;
  const ring = claim ? await vault.keys(principal.clientId, "idempotency") : null;
  const { vault: purpose, signs } = door(asked.meta);
  const own = purpose ? await vault.keys(principal.clientId, purpose) : noRing;

  async function consult<A, G, O = G>(what: Consultation<A, G, O>): Promise<O> {
    const begin = async (tx: Tx) => {
      const earlier = claim && ring ? await claimKey(tx, claim, ring) : null;
      if (earlier) return { earlier };
      const read = await what.read(tx);
      if (claim) await reserveKey(tx, claim, null);
      return { earlier: null, read };
    };
    const began = await begunAgain(() => ctx.db.asClient(entry, begin, { mode: claim ? "write" : "read" }));
    if (began.earlier) return replay(ctx, began.earlier) as O;
    const { read } = began;
    try {
      const got = await what.ask(read, { signal: AbortSignal.timeout(providerDeadlineSeconds * 1000) });
      if (!what.record && !claim) return got as unknown as O;
      const recorded = async (tx: Tx) => {
        const answer = what.record ? await what.record(tx, read, got) : (got as unknown as O);
        if (type === "mutation" && !door(asked.meta).reads) {
          const subjectId = subjectOf(answer) ?? subjectOf(ctx.parsedInput);
          const input = redacted(ctx, path);
          await recordAudit(tx, { actor: principal.id, action: path, subjectId, input, requestId: ctx.requestId });
        }
        if (claim && ring) await answerReserved(tx, claim, ring, { status: 200, data: answer });
        return answer;
      };
      return await begunAgain(() => ctx.db.asClient(entry, recorded));
    } catch (error) {
      if (claim) await ctx.db.asClient(entry, (tx) => giveUpKey(tx, claim));
      throw asHeard(error) ?? error;
    }
  }

  const result = await next({ ctx: { principal, ring: own, consult } });
  return signs && result.ok ? { ...result, data: await signed(ctx, result.data) } : result;
});

/** A link is good for minutes and an answer is kept for a day: so it is signed on its way out, also out of a replay. */
async function signed<T>({ providers }: Context, answer: T): Promise<T> {
  try {
    return (await signLinks(providers.files, answer, new Date())) as T; // the same, but for the links in it
  } catch (error) {
    throw asHeard(error) ?? error;
  }
}

/** What a provider's failure is to somebody who only asked. */
function providerFault({ kind, message, retryAfterSeconds }: ProviderError): Fault {
  if (kind === "refused") return new Fault("provider_rejected", message);
  return new Fault("provider_unavailable", message, retryAfterSeconds === undefined ? {} : { retryAfterSeconds });
}

const lookAgainMs = 100;

/** What is busy may be free in a moment: a kind with patience tries again for so long, a transaction each time. */
async function patiently<T>(
  { busy, patienceSeconds = 0 }: { busy: FaultCode; patienceSeconds?: number },
  open: () => Promise<T>,
): Promise<T> {
  const until = performance.now() + patienceSeconds * 1000;
  for (;;) {
    try {
      return await open();
    } catch (error) {
      if (!(error instanceof Fault && error.fault === busy) || performance.now() + lookAgainMs > until) throw error;
    }
    await sleep(lookAgainMs);
  }
}

/** Step 2: asks. null when the deadline passed, or the line broke, and nobody knows what became of it. */
async function ask<A, G>(
  what: Outbound<never, A, G, unknown>,
  accountId: string,
  asked: A,
  ctx: Context,
): Promise<Settlement<G> | null> {
  const deadline = { signal: AbortSignal.timeout(providerDeadlineSeconds * 1000) };
  try {
    return { outcome: "accepted", got: await what.ask(ctx.providers, accountId, asked, deadline) };
  } catch (error) {
    if (!(error instanceof ProviderError))
      ctx.log().error({ err: error }, `${what.kind}: the provider's adapter failed`);
    if (!(error instanceof ProviderError) || error.kind === "unknown") return null;
    const { kind: outcome, message, retryAfterSeconds } = error;
    return { outcome, message, ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }) };
  }
}

/** Of a door that names no purpose in its meta. */
const noRing: KeyRing = {
  seal: () => {
    throw new Error("This door must say `vault` in its meta.");
  },
  open: () => {
    throw new Error("This door must say `vault` in its meta.");
  },
};

// tRPC asks for this mark on what a middleware returns without calling next; its value is never read.
const answered = "middlewareMarker" as never;

function claimOf(ctx: Context & { principal: Principal; parsedInput: unknown }, path: string): Claim | null {
  const key = ctx.idempotencyKey();
  if (key === null) return null;
  const fingerprint = fingerprintOf(ctx.signingSecret, path, ctx.parsedInput);
  return { principal: ctx.principal.id, key, fingerprint, requestId: ctx.requestId };
}

function replay(ctx: Context, { answer, requestId }: { answer: Answer; requestId: string }): unknown {
  ctx.reply.firstRequestId = requestId;
  ctx.unspend();
  return give(answer);
}

/** When to come again is of the moment, and so no part of what is stored. */
function give(answer: Answer, retryAfterSeconds?: number): unknown {
  if (!("fault" in answer)) return answer.data;
  const { fault, message, details } = answer;
  throw new Fault(fault, message, {
    ...(details ? { details } : {}),
    ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
  });
}

function redacted(ctx: Context & { parsedInput: unknown }, path: string): unknown {
  const schema = ctx.inputOf(path);
  return schema ? redact(schema, ctx.parsedInput) : {};
}

function subjectOf(value: unknown): string | null {
  return typeof value === "object" && value !== null && "id" in value && typeof value.id === "string" ? value.id : null;
}
