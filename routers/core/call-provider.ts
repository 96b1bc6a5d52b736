import { setTimeout as sleep } from "node:timers/promises";
import type { Tx } from "../../db/client.ts";
import { type Deadline, ProviderError } from "../ports/provider-error.ts";
import { type Cipher, KeysUnavailable } from "../ports/vault.ts";
import { signLinks } from "../uploads/service.ts";
import type { Context } from "./context.ts";
import { ApiError, type ErrorCode } from "./errors.ts";

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

const lookAgainMs = 100;

/** What is busy may be free in a moment: a kind with patience tries again for so long, a transaction each time. */
export async function retryWhileBusy<T>(
  { busy, patienceSeconds = 0 }: { busy: ErrorCode; patienceSeconds?: number },
  open: () => Promise<T>,
): Promise<T> {
  const until = performance.now() + patienceSeconds * 1000;
  for (;;) {
    try {
      return await open();
    } catch (error) {
      if (!(error instanceof ApiError && error.errorCode === busy) || performance.now() + lookAgainMs > until)
        throw error;
    }
    await sleep(lookAgainMs);
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
