import { setTimeout as sleep } from "node:timers/promises";
import type { Tx } from "../../db/client.ts";
import { type Deadline, ProviderError } from "../ports/provider-error.ts";
import { type Cipher, KeysUnavailable } from "../ports/vault.ts";
import type { Context } from "./context.ts";
import { ApiError, type ErrorCode } from "./errors.ts";
import { signLinks } from "./sign-links.ts";
import { outsideTurn } from "./turn.ts";

/** Maps a provider's failure. An unavailable key service is ours, not the provider's: `toApiError` maps that. */
export const fromProviderError = (error: unknown) =>
  error instanceof ProviderError && !(error instanceof KeysUnavailable) ? providerApiError(error) : undefined;

/** For `ctx.queryProvider`: reads, calls a provider without an open transaction, records its response. */
export type ProviderQuery<Read, Response, Output> = {
  read(tx: Tx): Promise<Read>;
  /** Must be safe to repeat. Throws ProviderError or ApiError. */
  execute(read: Read, deadline: Deadline): Promise<Response>;
  /** Returns the output; without it, the output is the response. The rows may have changed since `read`. */
  record?(tx: Tx, read: Read, response: Response): Promise<Output>;
};

/** Signs the links in an output when it is sent, also on a replay: a link lasts minutes, a stored response a day. */
export async function withSignedLinks<T>({ providers }: Context, output: T): Promise<T> {
  try {
    return (await signLinks(providers.files, output, new Date())) as T; // the same type: only its links change
  } catch (error) {
    throw fromProviderError(error) ?? error;
  }
}

/** For a query, where an unknown outcome changes nothing and so is only unavailable. */
function providerApiError({ kind, message, retryAfterSeconds }: ProviderError): ApiError {
  if (kind === "refused") return new ApiError("provider_rejected", message);
  return new ApiError("provider_unavailable", message, { retryAfterSeconds });
}

const busyRetryMs = 100;

/** Runs `open` again while it fails with `busyCode`, for at most `seconds`. Each attempt is its own transaction. */
export async function retryWhileBusy<T>(busyCode: ErrorCode, seconds = 0, open: () => Promise<T>): Promise<T> {
  const deadline = performance.now() + seconds * 1000;
  for (;;) {
    try {
      return await open();
    } catch (error) {
      const isBusy = error instanceof ApiError && error.errorCode === busyCode;
      if (!isBusy || performance.now() + busyRetryMs > deadline) throw error;
    }
    await outsideTurn(() => sleep(busyRetryMs));
  }
}

/** For procedures without a `vault` purpose in their metadata. */
export const noCipher: Cipher = {
  seal: () => {
    throw new Error("This procedure has no cipher: add `vault` to its metadata.");
  },
  open: () => {
    throw new Error("This procedure has no cipher: add `vault` to its metadata.");
  },
};
