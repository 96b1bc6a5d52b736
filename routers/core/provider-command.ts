import type { Tx } from "../../db/client.ts";
import type { Providers } from "../ports/index.ts";
import type { Deadline } from "../ports/provider-error.ts";
import type { ErrorCode } from "./errors.ts";

/** The principal of the request, for the rows that store it. */
export type Requester = { clientId: string; actor: string };

/**
 * Why a command failed. `absent`: two lookups, well past the deadline, did not find it at the provider. `passing`: the same
 * request may succeed later, so this is not stored under its idempotency key. `lookedUp`: the provider may have executed it
 * although one lookup found nothing, so a later lookup removes it if it shows up.
 */
export type Failure = {
  outcome: "refused" | "unavailable" | "absent";
  message: string;
  retryAfterSeconds?: number | undefined;
  passing?: true | undefined;
  lookedUp?: true;
};

/**
 * A command that calls a provider before we respond: three steps, and no transaction is open in the second.
 * `Request` is what the provider receives, `Resource` its response, `Output` our public resource. `Found` and `Locked` are
 * what the first statements of the two transactions returned.
 */
export type ProviderCommand<Input, Request, Resource, Output, Found = undefined, Locked = undefined> = {
  /** The path of the procedure, which is also the action in the audit log. */
  kind: string;
  /**
   * Sends what `prepare` reads, in the round trip that claims the idempotency key. It changes nothing, since the key may have
   * its response already.
   */
  readFirst?(tx: Tx, input: Input): Found;
  /** Step 1, in a transaction: checks the input and writes our row. */
  prepare(tx: Tx, input: Input, requester: Requester, found: Found): Promise<Prepared<Request>>;
  /** Step 2: sends the request. Throws ProviderError. */
  execute(providers: Providers, accountId: string, request: Request, deadline: Deadline): Promise<Resource>;
  /** Locks what `onAccepted` changes. It is sent together with the settlement of the intent. */
  lockFirst?(tx: Tx, subjectId: string): Promise<Locked>;
  /**
   * Step 3, in a transaction: the provider executed the request. Returns the output if it is known without a further read,
   * else nothing.
   */
  onAccepted(tx: Tx, subjectId: string, resource: Resource, locked: Locked): Promise<Output | undefined>;
  /** Step 3, in a transaction: the request was not executed, and will not be. */
  onFailed(tx: Tx, subjectId: string, failure: Failure): Promise<void>;
  /** In a transaction: the outcome is unknown at the deadline. Can be called repeatedly until the intent is settled. */
  onUnknown(tx: Tx, subjectId: string): Promise<void>;
  read(tx: Tx, subjectId: string): Promise<Output>;
  /** For the recovery job: the request again, to look the resource up, or to repeat the request where that is safe. */
  rebuildRequest(tx: Tx, subjectId: string): Promise<Request>;
  /** All copies of the resource at the provider, from all pages. */
  lookup(
    providers: Providers,
    accountId: string,
    request: Request,
    since: Date,
    deadline: Deadline,
  ): Promise<Resource[]>;
  /** `lookup` repeats the request instead of reading: then its refusal settles the intent, which a refused read does not. */
  lookupRepeatsRequest?: true;
  /** With `lookupRepeatsRequest`: reads the resource. Empty: the change did not happen. null: it cannot be determined. */
  look?(providers: Providers, accountId: string, request: Request, deadline: Deadline): Promise<Resource[] | null>;
  /** The provider stores no id of ours. A copy that is found late could belong to a later command, so it is not removed. */
  unnamed?: true;
  /** Handles a copy that is found after the intent was settled: the accepted one, or an orphan. */
  onOrphan?(tx: Tx, subjectId: string, accountId: string, resource: Resource): Promise<void>;
  /** The status of the response when the command was accepted. */
  status: 200 | 201 | 204;
  /** The error while another intent about the same subject is open. */
  busyCode: ErrorCode;
  /** How long a request waits for a busy subject before it fails with `busyCode`. */
  waitWhileBusySeconds?: number;
};

/** `writing`: statements that were sent; the caller awaits them together with its own. */
export type Prepared<Request> = {
  subjectId: string;
  providerAccountId: string;
  request: Request;
  writing?: Promise<unknown>;
};

/** A provider command that was found by its name. Its types fit together, which cannot be expressed here. */
export type AnyProviderCommand = ProviderCommand<never, never, never, unknown, never, never>;
