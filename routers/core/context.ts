import type { Logger } from "pino";
import type { z } from "zod";
import type { Database } from "../../db/client.ts";
import type { Providers } from "../ports/index.ts";
import { ApiError } from "./errors.ts";
import type { EventFollowers } from "./event-followers.ts";
import type { LimitClass } from "./limits.ts";
import type { Reply } from "./reply.ts";
import type { Shares } from "./shares.ts";

/** The authenticated caller, before a client is chosen. */
export type Caller =
  | {
      kind: "key";
      keyId: string;
      /** The first key of its chain of rotations: itself, if it replaced none. */
      rootId: string;
      clientId: string;
      scopes: readonly string[];
    }
  | {
      kind: "user";
      userId: string;
      subject: string;
      /** In lower case; null without an email address that the identity provider has verified. */
      email: string | null;
      name: string | null;
      clientIds: readonly string[];
      /** The scopes of the token, which limit the person. null: no limit. An empty list grants nothing. */
      scopes: readonly string[] | null;
      /** An operator of the installation. */
      platform: boolean;
    }
  /** A person with a valid token but without a user here: they can only accept an invitation. */
  | { kind: "stranger"; subject: string; email: string | null; name: string | null }
  /** One of the installation's own services, with a token from the environment. */
  | { kind: "service"; name: string; scopes: readonly string[] | null };

export const unknownPersonError = () =>
  new ApiError(
    "unauthenticated",
    "The token is valid, but it belongs to no user of this installation. Accept an invitation first.",
  );

/** The caller as it acts for one client, with its scopes. */
export type Principal = {
  /** As in audit rows and idempotency keys: `key_…`, `user_…` or `service:…`. */
  id: string;
  kind: Caller["kind"];
  clientId: string;
  scopes: readonly string[];
  /** The owner of the idempotency keys: a rotated API key continues to use those of the key that it replaced. */
  idempotencyOwner: string;
};

export type Context = {
  requestId: string;
  /** The base URL of this installation, for links in responses. */
  publicUrl: string;
  transport: "rest" | "trpc";
  /** On /trpc: the caller can read streamed responses. */
  takesStream: boolean;
  reply: Reply;
  /** Throws ApiError `header_invalid`, or `batch_not_allowed` if one key would cover several mutations. */
  idempotencyKey: () => string | null;
  /** Throws ApiError `unauthenticated`. Cached per request unless `fresh`: a token can expire during a stream. */
  authenticate: (fresh?: "fresh") => Promise<Caller>;
  /** Throws ApiError `client_required` or `client_forbidden`. */
  choosePrincipal: (caller: Caller) => Promise<Principal>;
  /** Counts the request against the limits of caller and client, and sets the rate limit headers. Throws `rate_limit_exceeded`. */
  spend: (principalId: string, limit: LimitClass, clientId?: string) => void;
  /** Reverts `spend`: a replay costs no quota. */
  unspend: () => void;
  /** Runs a procedure when its client has a turn: see server/request-gate.ts. */
  inTurn: <T>(work: () => Promise<T>) => Promise<T>;
  /** The input schema of a procedure. The builders parse before a transaction opens, and redact for the audit log. */
  inputOf: (path: string) => z.ZodType | undefined;
  /** Whether every output is validated in full: in development and in tests. */
  validatesOutput: boolean;
  db: Database;
  providers: Providers;
  live: EventFollowers;
  /** Responses that are being streamed. */
  streams: Shares;
  /** Signs cursors and fingerprints. Each signed text states which of the two it is. */
  signingSecret: Buffer;
  /** The HMAC of an API key under the installation's pepper. */
  hashKey: (key: string) => string;
  /** A logger with the request id, and the client id once it is known. */
  log: () => Logger;
};

export type Person = Extract<Caller, { kind: "user" | "stranger" }>;
