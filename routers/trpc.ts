import { initTRPC, TRPCError } from "@trpc/server";
import type { Logger } from "pino";
import type { z } from "zod";
import type { Database, Entry } from "../db/client.ts";
import { redact } from "./audit/redact.ts";
import { recordAudit } from "./audit/service.ts";
import { asFault, docUrl, Fault } from "./fault.ts";
import { type Answer, type Claim, claimKey, fingerprintOf, storeAnswer } from "./idempotency/service.ts";
import type { AnyOutbound } from "./intents/kinds.ts";
import type { Outbound } from "./intents/outbound.ts";
import { loseIntent, openIntent, providerDeadlineSeconds, type Settlement, settle } from "./intents/service.ts";
import type { LimitClass } from "./limits.ts";
import type { ListKey } from "./page.ts";
import { type KeyRing, ProviderError, type Providers } from "./providers.ts";
import type { Reply } from "./reply.ts";
import type { Meta } from "./rest.ts";
import { grants } from "./scopes.ts";

/** Who calls, before a client is chosen. */
export type Caller =
  | { kind: "key"; keyId: string; clientId: string; scopes: readonly string[] }
  | { kind: "user"; userId: string; subject: string; clientIds: readonly string[]; scopes: readonly string[] | null };

/** Who acts, for which client, and what he may do. */
export type Principal = {
  /** As in audit rows and idempotency keys: `key_…` or `user_…`. */
  id: string;
  kind: Caller["kind"];
  clientId: string;
  scopes: readonly string[];
};

export type Context = {
  requestId: string;
  transport: "rest" | "trpc";
  reply: Reply;
  /** Throws Fault `invalid_header`, or `batch_not_allowed` where one key would stand for several mutations. */
  idempotencyKey: () => string | null;
  /** Throws Fault `unauthenticated`. */
  authenticate: () => Promise<Caller>;
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
  /** For cursors and fingerprints: what is signed with it says which of the two it is. */
  signingSecret: Buffer;
  /** HMAC of an API key under the installation's pepper. */
  hashKey: (key: string) => string;
  settings: Settings;
  /** With the request's id, and its client's once that is known. */
  log: () => Logger;
};

/** What an installation may decide and a procedure must know. */
export type Settings = {
  /** Webhooks to http and to private addresses: for a laptop, never for a server on the internet. */
  allowPrivateWebhooks: boolean;
};

const t = initTRPC
  .context<Context>()
  .meta<Meta>()
  .create({
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
  ctx.spend(caller.kind === "key" ? caller.keyId : caller.userId, "read");
  return next({ ctx: { caller } });
});

type Asked = { ctx: Context; meta: Meta | undefined };

/** Who may come in: the caller is known, his client chosen, his scope looked at, his limit spent. */
async function admit({ ctx, meta }: Asked) {
  const { scope, limit } = door(meta);
  if (!scope) throw new Error("This procedure declares no scope.");
  const principal = await ctx.choosePrincipal(await ctx.authenticate());
  if (!grants(principal.scopes, scope))
    throw new Fault("scope_missing", `This takes the scope ${scope}, which you do not have.`);
  ctx.spend(principal.id, limit);
  return { principal, entry: entryOf(principal, ctx.requestId) };
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
  const { path, meta, next } = asked;
  const { principal, entry } = await admit(asked);
  const ctx = { ...asked.ctx, principal, entry, parsedInput: await parse(asked) };
  const claim = claimOf(ctx, path);
  const { vault } = ctx.providers;
  const purpose = door(meta).vault;
  const ring = claim ? await vault.keys(ctx.principal.clientId, "idempotency") : null;
  const own = purpose ? await vault.keys(ctx.principal.clientId, purpose) : null;
  return ctx.db.asClient(ctx.entry, async (tx) => {
    const earlier = claim && ring ? await claimKey(tx, claim, ring) : null;
    if (earlier) return { ok: true as const, data: replay(ctx, earlier), marker: answered };
    const result = await next({ ctx: { principal, tx, ring: own ?? noRing } });
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
  });
});

/** Asks a provider before it answers. `ctx.perform` takes the three steps; a replay never comes so far. */
export const outbound = t.procedure.use(async (asked) => {
  const { path, next } = asked;
  const { principal, entry } = await admit(asked);
  const ctx = { ...asked.ctx, principal, entry, parsedInput: await parse(asked) };
  const claim = claimOf(ctx, path);
  const ring = claim ? await ctx.providers.vault.keys(ctx.principal.clientId, "idempotency") : null;

  async function perform<I, A, G, O>(what: Outbound<I, A, G, O>, input: I): Promise<O> {
    const opened = await ctx.db.asClient(ctx.entry, async (tx) => {
      const earlier = claim && ring ? await claimKey(tx, claim, ring) : null;
      if (earlier) return { earlier };
      const opening = { principal: ctx.principal.id, claim, requestId: ctx.requestId, auditInput: redacted(ctx, path) };
      return { earlier: null, ...(await openIntent(tx, what, input, ctx.principal.clientId, opening)) };
    });
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
    const answer = await ctx.db.asClient(own, (tx) =>
      settle(tx, anyOutbound, opened.intentId, settlement as Settlement<never>, ring),
    );
    return give(answer, "retryAfterSeconds" in settlement ? settlement.retryAfterSeconds : undefined) as O;
  }

  return next({ ctx: { perform } });
});

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
