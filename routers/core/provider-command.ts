import type { Tx } from "../../db/client.ts";
import type { Providers } from "../ports/index.ts";
import type { Deadline } from "../ports/provider-error.ts";
import type { ErrorCode } from "./errors.ts";

/** Who asks, for the rows that remember it. */
export type Requester = { clientId: string; actor: string };

/**
 * Why nothing came of it. `absent`: the provider was searched, twice and well past the deadline, and does not have it.
 * `passing`: the same request may succeed later, so this is not kept as the answer to its idempotency key. `lookedUp`: the
 * provider may have done it, and one look found nothing; a second look later removes what shows up after all.
 */
export type Failure = {
  outcome: "refused" | "unavailable" | "absent";
  message: string;
  retryAfterSeconds?: number;
  passing?: true;
  lookedUp?: true;
};

/**
 * Something that is asked of a provider before we answer. Three steps, and no transaction open in the second.
 * `Asked` is what the provider is asked, `Got` what it answers, `Output` the resource as the world sees it.
 */
export type ProviderCommand<Input, Asked, Got, Output> = {
  /** The procedure's path; also the audit's action. */
  kind: string;
  /** Step 1, in a transaction: checks, and writes the row that says what is about to be asked. */
  prepare(
    tx: Tx,
    input: Input,
    asker: Requester,
  ): Promise<{ subjectId: string; providerAccountId: string; asked: Asked }>;
  /** Step 2: asks. Throws ProviderError. */
  execute(providers: Providers, accountId: string, asked: Asked, deadline: Deadline): Promise<Got>;
  /** Step 3, in a transaction: the provider did it. */
  onAccepted(tx: Tx, subjectId: string, got: Got): Promise<void>;
  /** Step 3: it did not, and will not. */
  onFailed(tx: Tx, subjectId: string, failure: Failure): Promise<void>;
  /** The deadline passed, and nobody knows. May be called again while that is so. */
  onUnknown(tx: Tx, subjectId: string): Promise<void>;
  read(tx: Tx, subjectId: string): Promise<Output>;
  /** For the safety job: what it needs to look the thing up, or to ask again where that is harmless. */
  rebuildRequest(tx: Tx, subjectId: string): Promise<Asked>;
  /** What the provider has of it: all of it, paged to the end. Empty: nothing. */
  lookup(providers: Providers, accountId: string, asked: Asked, since: Date, deadline: Deadline): Promise<Got[]>;
  /** `find` asks again instead of looking: then a refusal of it settles the matter. One of a mere look proves nothing. */
  lookupRepeatsRequest?: true;
  /** Where `find` asks again: reads what the provider has. Empty: the change did not happen. null: that cannot be told. */
  look?(providers: Providers, accountId: string, asked: Asked, deadline: Deadline): Promise<Got[] | null>;
  /** The provider keeps no name of ours for it: what is found late could be a later one, and is not removed. */
  unnamed?: true;
  /** What to do with one that is found after the matter was settled: it may be the very one that was taken, or another. */
  onOrphan?(tx: Tx, subjectId: string, accountId: string, got: Got): Promise<void>;
  /** The status of the answer when it was accepted. */
  status: 200 | 201 | 204;
  /** What is answered while another intent about the same subject is open. */
  busyCode: ErrorCode;
  /** How long a request waits for what is busy before it is told so. */
  waitWhileBusySeconds?: number;
};

/** A provider command found by its name: what goes in and out fits within one kind, which the types cannot say here. */
export type AnyProviderCommand = ProviderCommand<never, never, never, unknown>;
