import { setTimeout as sleep } from "node:timers/promises";
import type { Tx } from "../../db/client.ts";
import { type Deadline, ProviderError } from "../ports/provider-error.ts";
import { type Cipher, KeysUnavailable } from "../ports/vault.ts";
import type { Context } from "./context.ts";
import { ApiError, type ErrorCode } from "./errors.ts";
import { signLinks } from "./sign-links.ts";

/** That our own key service is away is no failure of the provider's: `asFault` knows it. */
export const fromProviderError = (error: unknown) =>
  error instanceof ProviderError && !(error instanceof KeysUnavailable) ? providerApiError(error) : undefined;

/** What `ctx.consult` does: reads, asks somebody else's machine without a transaction open, records what it said. */
export type ProviderQuery<A, G, O> = {
  read(tx: Tx): Promise<A>;
  /** May be asked twice. Throws ProviderError, or a Fault. */
  execute(asked: A, deadline: Deadline): Promise<G>;
  /** What is answered; without it, what was heard. May find that things have changed since they were read. */
  record?(tx: Tx, asked: A, got: G): Promise<O>;
};

/** A link is good for minutes and an answer is kept for a day: so it is signed on its way out, also out of a replay. */
export async function withSignedLinks<T>({ providers }: Context, answer: T): Promise<T> {
  try {
    return (await signLinks(providers.files, answer, new Date())) as T; // the same, but for the links in it
  } catch (error) {
    throw fromProviderError(error) ?? error;
  }
}

/** What a provider's failure is to somebody who only asked. */
function providerApiError({ kind, message, retryAfterSeconds }: ProviderError): ApiError {
  if (kind === "refused") return new ApiError("provider_rejected", message);
  return new ApiError("provider_unavailable", message, retryAfterSeconds === undefined ? {} : { retryAfterSeconds });
}

const busyRetryMs = 100;

/** Runs `open` again while it fails with `busyCode`, until `seconds` have passed: each try is a transaction of its own. */
export async function retryWhileBusy<T>(busyCode: ErrorCode, seconds = 0, open: () => Promise<T>): Promise<T> {
  const deadline = performance.now() + seconds * 1000;
  for (;;) {
    try {
      return await open();
    } catch (error) {
      const isBusy = error instanceof ApiError && error.errorCode === busyCode;
      if (!isBusy || performance.now() + busyRetryMs > deadline) throw error;
    }
    await sleep(busyRetryMs);
  }
}

/** Of a door that names no purpose in its meta. */
export const noCipher: Cipher = {
  seal: () => {
    throw new Error("This door must say `vault` in its meta.");
  },
  open: () => {
    throw new Error("This door must say `vault` in its meta.");
  },
};
