import { createHmac, hash, timingSafeEqual } from "node:crypto";
import { and, eq, gt, isNull, lt, or, sql } from "drizzle-orm";
import type { Logger } from "pino";
import type { Database } from "../db/client.ts";
import { newId } from "../db/ids.ts";
import { apiKeys, clients, memberships, roles, users } from "../db/schema/clients.ts";
import { isStorable } from "../db/text.ts";
import { type Caller, type Principal, unknownPersonError } from "../routers/core/context.ts";
import { ApiError } from "../routers/core/errors.ts";
import { grants, scopes } from "../routers/core/scopes.ts";
import { IdentityUnavailable, TokenRefused, type VerifiedToken } from "./auth-jwt.ts";
import { batchedLookup } from "./key-lookup.ts";

const longestClaim = 320;
const keyPattern = /^pb_(live|test)_[A-Za-z0-9_-]{32}$/;
const noteUseMs = 60_000;
const refuseMs = 5_000;
const remembered = 10_000;

type KeyFacts = { keyId: string; rootId: string; clientId: string; scopes: readonly string[] };
type Options = {
  db: Database;
  log: Logger;
  verifyJwt: (token: string) => Promise<VerifiedToken>;
  clientsClaim: string;
  pepper: Buffer;
  /** The `sub` of everybody who runs the installation. */
  operators?: readonly string[];
  /** The installation's own services, by name. */
  services?: readonly { name: string; token: string; scopes: readonly string[] | null }[];
  /** Monotonic: a clock that is set must not make a key be remembered for longer. */
  now?: () => number;
};

/** Finds out who calls: a person with a token of the identity provider, or an API key. */
export function authenticator({
  db,
  log,
  verifyJwt,
  clientsClaim,
  pepper,
  operators = [],
  services = [],
  now = () => performance.now(),
}: Options) {
  const known = new Map<string, { facts: KeyFacts; used: number }>();
  /** Keys that nobody has, apart: however many are tried, none takes the place of a good one. */
  const unknown = new Map<string, number>();
  const lookUp = batchedLookup((hashes) => db.asSystem((tx) => findKeys(tx, hashes), { mode: "read" }));
  const writes = new Set<Promise<unknown>>();
  /** Auth0 puts nothing of its own into an access token without one: `https://example.com/clients`, `…/email`. */
  const namespace = clientsClaim.slice(0, clientsClaim.lastIndexOf("/") + 1);
  const hashKey = (key: string) => createHmac("sha256", pepper).update(key).digest("hex");

  /**
   * What a key is, remembered for as long as there is room: its client and scopes never change. Whether it still holds is
   * asked again in every transaction (app.enter), so a revocation is effective at once, in every process.
   */
  async function keyFacts(key: string): Promise<KeyFacts> {
    const name = hash("sha256", key); // in memory alone, where the pepper adds nothing and costs much
    let found = known.get(name);
    if (!found) {
      if ((unknown.get(name) ?? 0) > now()) throw new ApiError("unauthenticated");
      const facts = await lookUp(hashKey(key));
      if (!facts) {
        keep(unknown, name, now() + refuseMs);
        throw new ApiError("unauthenticated");
      }
      found = { facts, used: Number.NEGATIVE_INFINITY };
      keep(known, name, found);
    }
    if (now() - found.used >= noteUseMs) {
      found.used = now();
      noteUse(found.facts);
    }
    return found.facts;
  }

  /** Behind the answer: the request does not wait for it. */
  function noteUse({ clientId, keyId }: KeyFacts) {
    const write = db
      .asClient({ clientId }, (tx) =>
        tx
          .update(apiKeys)
          .set({ lastUsedAt: sql`clock_timestamp()` as unknown as Date })
          .where(
            and(
              eq(apiKeys.id, keyId),
              isNull(apiKeys.revokedAt),
              or(isNull(apiKeys.lastUsedAt), lt(apiKeys.lastUsedAt, sql`clock_timestamp() - interval '1 minute'`)),
            ),
          ),
      )
      .catch((error) => log.warn({ err: error }, "the last use of a key was not written"))
      .finally(() => writes.delete(write));
    writes.add(write);
  }

  async function authenticate(authorization: string | undefined): Promise<Caller> {
    const token = /^Bearer +(\S+)$/i.exec(authorization ?? "")?.[1];
    if (!token) throw new ApiError("unauthenticated", "Send `Authorization: Bearer` with a token or an API key.");
    const service = services.find(({ token: known }) => isSame(token, known));
    if (service) return { kind: "service", name: service.name, scopes: service.scopes };
    if (keyPattern.test(token)) return { kind: "key", ...(await keyFacts(token)) };
    try {
      const { subject, claims, scopes } = await verifyJwt(token);
      const platform = operators.includes(subject);
      const claim = (name: string) => claims[name] ?? claims[namespace + name];
      const known = await db.asSystem((tx) => findUser(tx, subject), { mode: "read", owner: subject });
      const userId = known ?? (platform ? await db.asSystem((tx) => addUser(tx, subject)) : null);
      const person = { subject, email: emailOf(claim), name: textOf(claim("name")) };
      if (!userId) return { kind: "stranger", ...person };
      return {
        kind: "user",
        userId,
        ...person,
        clientIds: listOf(claims[clientsClaim]),
        scopes,
        platform,
      };
    } catch (error) {
      if (error instanceof TokenRefused) throw new ApiError("unauthenticated");
      if (error instanceof IdentityUnavailable)
        throw new ApiError("server_overloaded", "The identity provider cannot be reached.", {
          retryAfterSeconds: 5,
          cause: error,
        });
      throw error;
    }
  }

  /** For whom he acts. Foreign, unknown and malformed clients are refused in the same words. */
  async function choosePrincipal(caller: Caller, clientHeader: string | undefined): Promise<Principal> {
    if (caller.kind === "service") throw new ApiError("client_forbidden");
    if (caller.kind === "stranger") throw unknownPersonError();
    if (caller.kind === "key") {
      if (clientHeader !== undefined && clientHeader !== caller.clientId) throw new ApiError("client_forbidden");
      const { keyId: id, rootId, clientId, scopes } = caller;
      return { kind: "key", id, clientId, scopes, idempotencyOwner: rootId };
    }
    const all = await db.asUser(caller.userId, (tx) => membershipsOf(tx, caller.userId));
    const mine = all.filter(({ clientId }) => caller.clientIds.includes(clientId));
    if (clientHeader === undefined && mine.length > 1) throw new ApiError("client_required");
    const chosen = clientHeader === undefined ? mine[0] : mine.find(({ clientId }) => clientId === clientHeader);
    if (!chosen) throw new ApiError("client_forbidden");
    if (chosen.status !== "active") throw new ApiError("client_suspended");
    const { userId: id, scopes: limit } = caller;
    const held = scopes.filter((scope) => grants(chosen.scopes, scope) && (limit === null || limit.includes(scope)));
    return { kind: "user", id, clientId: chosen.clientId, scopes: held, idempotencyOwner: id };
  }

  return { authenticate, choosePrincipal, hashKey, settled: () => Promise.allSettled(writes) };
}

/** The oldest entry goes when there is no room. */
function keep<T>(entries: Map<string, T>, name: string, value: T) {
  entries.delete(name);
  const [oldest] = entries.keys();
  if (entries.size >= remembered && oldest !== undefined) entries.delete(oldest);
  entries.set(name, value);
}

/** Both are hashed first: the comparison takes as long, however much of it is right, and however long it is. */
const isSame = (given: string, known: string) =>
  timingSafeEqual(hash("sha256", given, "buffer"), hash("sha256", known, "buffer"));

type Tx = Parameters<Parameters<Database["asSystem"]>[0]>[0];

async function findKeys(tx: Tx, hashes: string[]): Promise<Map<string, KeyFacts>> {
  const rows = await tx
    .select({
      hash: apiKeys.hash,
      keyId: apiKeys.id,
      clientId: apiKeys.clientId,
      scopes: apiKeys.scopes,
      rootId: sql<string>`coalesce(${apiKeys.rootId}, ${apiKeys.id})`,
    })
    .from(apiKeys)
    .where(
      and(
        sql`${apiKeys.hash} = any(string_to_array(${hashes.join(",")}::text, ','))`,
        isNull(apiKeys.revokedAt),
        or(isNull(apiKeys.expiresAt), gt(apiKeys.expiresAt, sql`clock_timestamp()`)),
      ),
    );
  return new Map(rows.map(({ hash, ...facts }) => [hash, facts]));
}

async function findUser(tx: Tx, subject: string): Promise<string | null> {
  const [row] = await tx.select({ id: users.id }).from(users).where(eq(users.subject, subject));
  return row?.id ?? null;
}

/** An operator is known by the environment alone, until he comes for the first time. */
async function addUser(tx: Tx, subject: string): Promise<string | null> {
  await tx
    .insert(users)
    .values({ id: newId("user"), subject })
    .onConflictDoNothing();
  return findUser(tx, subject);
}

/** A claim that the database could not keep says nothing: it is no reason to fail. */
const textOf = (claim: unknown) =>
  typeof claim === "string" && claim !== "" && claim.length <= longestClaim && isStorable(claim) ? claim : null;

/** Only one that the identity provider has verified says anything. */
const emailOf = (claim: (name: string) => unknown) =>
  claim("email_verified") === true ? (textOf(claim("email"))?.toLowerCase() ?? null) : null;

const membershipsOf = (tx: Tx, userId: string) =>
  tx
    .select({ clientId: clients.id, status: clients.status, role: memberships.role, scopes: roles.scopes })
    .from(memberships)
    .innerJoin(clients, eq(clients.id, memberships.clientId))
    .innerJoin(roles, eq(roles.name, memberships.role))
    .where(and(eq(memberships.userId, userId), eq(memberships.status, "active")));

const listOf = (claim: unknown): string[] =>
  typeof claim === "string" ? [claim] : Array.isArray(claim) ? claim.filter((item) => typeof item === "string") : [];
