import type { Dispatcher } from "undici";
import { ProviderError } from "../../../routers/ports/provider-error.ts";
import { errorTextOf, withoutSecrets } from "./error-text.ts";

export type Answer = { is: "answer"; status: number; bytes: Buffer; location?: string };

/** `again`: the request may be repeated. `inDoubt`: it may have happened. `isDown`: the breaker counts it. */
export type Failure = { is: "failure"; error: ProviderError; again: boolean; inDoubt: boolean; isDown: boolean };

/** The outcome of one attempt. */
export type Outcome = Answer | Failure;

export type Judged = {
  /** The provider's name, for messages. */
  provider: string;
  method: Dispatcher.HttpMethod;
  /** `create`: a second execution does harm, so it is repeated only when nothing can have happened. */
  repeat: "safe" | "create";
  /** Values that are masked in error messages, even if the provider echoes them. */
  secrets?: readonly string[];
};

/** What a response other than 2xx means. */
export function failureOf(
  request: Judged,
  status: number,
  bytes: Buffer,
  retryAfterSeconds: number | undefined,
): Failure {
  const { provider } = request;
  const reason = withoutSecrets(errorTextOf(bytes), request.secrets);
  if (status === 429) {
    const message = `${provider} has limited our request rate${reason && `: ${reason}`}`;
    const error = new ProviderError("unavailable", message, { status, retryAfterSeconds });
    return { is: "failure", error, again: true, inDoubt: false, isDown: false };
  }
  // The response may come from a proxy or a full response queue, after the work was done: a 503 proves nothing either.
  if (status === 503) {
    const message = `${provider} is not available: it is overloaded`;
    const error = new ProviderError(doubtKind(request), message, { status, retryAfterSeconds });
    return { is: "failure", error, again: request.repeat === "safe", inDoubt: true, isDown: true };
  }
  // A 408 comes from a proxy that timed out: like a timeout of our own it proves nothing.
  if (status >= 400 && status < 500 && status !== 408) {
    const error = new ProviderError("refused", `${provider} refused: ${reason || `status ${status}`}`, { status });
    return { is: "failure", error, again: false, inDoubt: false, isDown: false };
  }
  const again = request.repeat === "safe" && [408, 500, 502, 504].includes(status);
  return doubtful(request, `it answered with status ${status}`, { again, status });
}

type Circumstances = { again: boolean; status?: number; retryAfterSeconds?: number; cause?: unknown };

/** The request was not sent, so nothing happened. */
export function notSent(request: Judged, why: string, { again, ...extra }: Circumstances): Failure {
  const error = new ProviderError("unavailable", `${request.provider} is not available: ${why}`, extra);
  return { is: "failure", error, again, inDoubt: false, isDown: true };
}

/** The request may have been executed. */
export function doubtful(request: Judged, why: string, { again, ...extra }: Circumstances): Failure {
  const error = new ProviderError(doubtKind(request), `No clear answer from ${request.provider}: ${why}`, extra);
  return { is: "failure", error, again, inDoubt: true, isDown: true };
}

/** A failed read changed nothing; any other request may have changed something. */
export function doubtKind({ method, repeat }: Judged): "unavailable" | "unknown" {
  return method === "GET" && repeat === "safe" ? "unavailable" : "unknown";
}

/** An attempt that did nothing does not decide what an earlier attempt may have done. A refusal does. */
export function doubted(request: Judged, error: ProviderError): ProviderError {
  const kind = doubtKind(request);
  if (error.kind !== "unavailable" || kind === "unavailable") return error;
  const { status, retryAfterSeconds, cause } = error;
  return new ProviderError(kind, error.message, { status, retryAfterSeconds, cause });
}
