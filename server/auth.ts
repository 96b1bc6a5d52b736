import { hash, timingSafeEqual } from "node:crypto";
import { and, eq } from "drizzle-orm";
import type { Logger } from "pino";
import type { Database, Tx } from "../db/client.ts";
import { newId } from "../db/ids.ts";
import { clients, memberships, roles, users } from "../db/schema/clients.ts";
import { isStorable } from "../db/text.ts";
import { type Caller, type Principal, unknownPersonError } from "../routers/core/context.ts";
import { ApiError } from "../routers/core/errors.ts";
import { grants, scopes } from "../routers/core/scopes.ts";
import { isApiKey, openApiKeys } from "./auth-api-keys.ts";
import { IdentityUnavailable, type JwtVerifier, TokenRefused } from "./auth-jwt.ts";

const maxClaimLength = 320;

type Options = {
  db: Database;
  log: Logger;
  verifyJwt: JwtVerifier;
  clientsClaim: string;
  pepper: Buffer;
  /** The `sub` of every operator of the installation. */
  operators?: readonly string[];
  /** The installation's own services, by name. */
  services?: readonly { name: string; token: string; scopes: readonly string[] | null }[];
  /** Monotonic: a change of the system clock must not extend the caching of a key. */
  now?: () => number;
};

/** Authenticates callers: a person with a token of the identity provider, an API key, or a service. */
export function authenticator(options: Options) {
  const { db, verifyJwt, services = [] } = options;
  const keys = openApiKeys(options);

  /** Whether this credential was verified before: it then costs neither a signature nor a query. */
  function isKnown(authorization: string): boolean {
    const token = tokenIn(authorization);
    if (!token) return true; // refused without any work
    if (services.some(({ token: known }) => isSame(token, known))) return true;
    return isApiKey(token) ? keys.isKnown(token) : verifyJwt.isKnown(token);
  }

  async function authenticate(authorization: string | undefined): Promise<Caller> {
    const token = tokenIn(authorization);
    if (!token) throw new ApiError("unauthenticated", "Send `Authorization: Bearer` with a token or an API key.");
    const service = services.find(({ token: known }) => isSame(token, known));
    if (service) return { kind: "service", name: service.name, scopes: service.scopes };
    if (isApiKey(token)) return { kind: "key", ...(await keys.factsOf(token)) };
    return await personOf(token, options);
  }

  /** Chooses the client to act for. Foreign, unknown and malformed clients get the same refusal. */
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

  return { authenticate, isKnown, choosePrincipal, hashKey: keys.hashKey, settled: keys.settled };
}

async function personOf(token: string, { db, verifyJwt, clientsClaim, operators = [] }: Options): Promise<Caller> {
  const verified = await verifyJwt(token).catch(toRefusal);
  const { subject, claims } = verified;
  const platform = operators.includes(subject);
  // Auth0 adds custom claims to an access token only under a namespace: `https://example.com/clients`, `…/email`.
  const namespace = clientsClaim.slice(0, clientsClaim.lastIndexOf("/") + 1);
  const claim = (name: string) => claims[name] ?? claims[namespace + name];
  const known = await db.asSystem((tx) => findUser(tx, subject), { mode: "read", owner: subject });
  const userId = known ?? (platform ? await db.asSystem((tx) => addUser(tx, subject)) : null);
  const person = { subject, email: emailOf(claim), name: textOf(claim("name")) };
  if (!userId) return { kind: "stranger", ...person };
  const clientIds = listOf(claims[clientsClaim]);
  return { kind: "user", userId, ...person, clientIds, scopes: verified.scopes, platform };
}

const tokenIn = (authorization: string | undefined) => /^Bearer +(\S+)$/i.exec(authorization ?? "")?.[1];

function toRefusal(error: unknown): never {
  if (error instanceof TokenRefused) throw new ApiError("unauthenticated");
  if (error instanceof IdentityUnavailable)
    throw new ApiError("server_overloaded", "The identity provider is unreachable.", {
      retryAfterSeconds: 5,
      cause: error,
    });
  throw error;
}

/** Both are hashed first, so that the comparison takes the same time for any input. */
const isSame = (given: string, known: string) =>
  timingSafeEqual(hash("sha256", given, "buffer"), hash("sha256", known, "buffer"));

async function findUser(tx: Tx, subject: string): Promise<string | null> {
  const [row] = await tx.select({ id: users.id }).from(users).where(eq(users.subject, subject));
  return row?.id ?? null;
}

/** An operator is known only by the environment until their first request. */
async function addUser(tx: Tx, subject: string): Promise<string | null> {
  await tx
    .insert(users)
    .values({ id: newId("user"), subject })
    .onConflictDoNothing();
  return findUser(tx, subject);
}

/** A claim that the database cannot store is ignored: the request does not fail because of it. */
const textOf = (claim: unknown) =>
  typeof claim === "string" && claim !== "" && claim.length <= maxClaimLength && isStorable(claim) ? claim : null;

/** Only an address that the identity provider has verified. */
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
