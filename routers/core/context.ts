import type { Logger } from "pino";
import type { z } from "zod";
import type { Database } from "../../db/client.ts";
import type { Providers } from "../ports/index.ts";
import { ApiError } from "./errors.ts";
import type { EventFollowers } from "./event-followers.ts";
import type { LimitClass } from "./limits.ts";
import type { Reply } from "./reply.ts";
import type { Shares } from "./shares.ts";

/** Who calls, before a client is chosen. */
export type Caller =
  | {
      kind: "key";
      keyId: string;
      /** The first key of its chain of rotations: itself, if it took the place of none. */
      rootId: string;
      clientId: string;
      scopes: readonly string[];
    }
  | {
      kind: "user";
      userId: string;
      subject: string;
      /** In lower case; null where the identity provider has verified none. */
      email: string | null;
      name: string | null;
      clientIds: readonly string[];
      /** What the token limits the person to. null: it limits nothing. An empty list grants nothing. */
      scopes: readonly string[] | null;
      /** An operator of the installation. */
      platform: boolean;
    }
  /** Somebody with a good token whom nobody here knows: he may accept an invitation, and nothing else. */
  | { kind: "stranger"; subject: string; email: string | null; name: string | null }
  /** One of the installation's own services, by the credential of the environment. */
  | { kind: "service"; name: string; scopes: readonly string[] | null };

export const unknownPersonError = () =>
  new ApiError("unauthenticated", "The token is good, but nobody here is known by it.");

/** Who acts, for which client, and what he may do. */
export type Principal = {
  /** As in audit rows and idempotency keys: `key_…`, `user_…` or `service:…`. */
  id: string;
  kind: Caller["kind"];
  clientId: string;
  scopes: readonly string[];
  /** Whose idempotency keys the caller uses: a rotated API key goes on with those of the key that it replaced. */
  idempotencyOwner: string;
};

export type Context = {
  requestId: string;
  transport: "rest" | "trpc";
  /** On /trpc: the caller reads answers that come bit by bit. */
  takesStream: boolean;
  reply: Reply;
  /** Throws Fault `header_invalid`, or `batch_not_allowed` where one key would stand for several mutations. */
  idempotencyKey: () => string | null;
  /** Throws Fault `unauthenticated`. Asked once in a request, unless `anew`: a token may run out while a stream goes on. */
  authenticate: (anew?: "anew") => Promise<Caller>;
  /** Throws Fault `client_required` or `client_forbidden`. */
  choosePrincipal: (caller: Caller) => Promise<Principal>;
  /** Counts against the caller and against the client. Throws Fault `rate_limit_exceeded`; says in the reply's headers what is left. */
  spend: (principalId: string, limit: LimitClass, clientId?: string) => void;
  /** A replay takes no quota. */
  unspend: () => void;
  /** The input schema of a procedure: the builders parse before a transaction opens, and redact for the audit. */
  inputOf: (path: string) => z.ZodType | undefined;
  db: Database;
  providers: Providers;
  live: EventFollowers;
  /** Responses that are being streamed. */
  streams: Shares;
  /** For cursors and fingerprints: what is signed with it says which of the two it is. */
  signingSecret: Buffer;
  /** HMAC of an API key under the installation's pepper. */
  hashKey: (key: string) => string;
  /** With the request's id, and its client's once that is known. */
  log: () => Logger;
};

export type Person = Extract<Caller, { kind: "user" | "stranger" }>;
