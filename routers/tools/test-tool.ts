import type { Tx } from "../../db/client.ts";
import type { ProviderQuery } from "../core/call-provider.ts";
import { ApiError } from "../core/errors.ts";
import { maskSecrets, secretForms, withoutPartialSecret } from "../core/mask-secrets.ts";
import { refuseInvalid } from "../core/refuse-invalid.ts";
import { openCredential } from "../credentials/service.ts";
import type { FetchAnswer, GuardedFetch } from "../ports/guarded-fetch.ts";
import type { Cipher } from "../ports/vault.ts";
import { SendFailed, type SendFailure } from "../ports/webhook-sender.ts";
import type { HttpDefinition } from "./definition.ts";
import { objectionsTo, requestOf, type ToolRequest } from "./request.ts";
import type { TestTool, ToolTest } from "./schema.ts";
import { getTool } from "./service.ts";

type Prepared = { http: HttpDefinition; request: ToolRequest; forms: string[] };

/** The longest wait here, even if the tool has a longer timeout in calls. */
const longestSeconds = 20;
const shownBytes = 4096;

const failureMessages: Record<SendFailure, string> = {
  address_forbidden: "The address of the tool is not public. Use a public host.",
  name_not_resolved: "The host name of the tool cannot be resolved. Check it.",
  connection_failed: "The connection to the tool failed or was closed.",
  tls_failed: "The TLS certificate of the tool's host is not valid.",
  response_malformed: "The response of the tool is not valid HTTP.",
  request_malformed: "The request could not be built: a header or the secret has characters that are not allowed.",
  timeout: "The tool did not respond in time.",
};

/** Sends the request that the voice provider would send, without a call. A failure of the tool is a result, not an error. */
export function testTool(
  input: TestTool,
  cipher: Cipher,
  guarded: GuardedFetch,
): ProviderQuery<Prepared, ToolTest, ToolTest> {
  return {
    read: (tx) => prepare(tx, input, cipher),
    execute: (prepared, { signal }) => send(guarded, prepared, signal),
    record: async (_tx, _prepared, result) => result,
  };
}

async function prepare(tx: Tx, { id, parameters, samples }: TestTool, cipher: Cipher): Promise<Prepared> {
  const { kind, definition: http } = await getTool(tx, id);
  if (http.type !== "http") {
    throw ApiError.invalid("id", `This is a ${kind} tool. Only http tools can be tested.`);
  }
  refuseInvalid(objectionsTo(http, parameters));
  const secret = http.auth ? await secretOf(tx, cipher, http.auth.credential) : null;
  return {
    http,
    request: requestOf(http, parameters, samples, secret),
    forms: secret === null ? [] : secretForms(secret),
  };
}

async function secretOf(tx: Tx, cipher: Cipher, provider: string): Promise<string> {
  const value = (await openCredential(tx, cipher, provider))?.value;
  if (value === undefined) {
    throw new ApiError(
      "credential_not_found",
      `The tool uses the credential ${provider}, which is no longer stored. Store it again.`,
    );
  }
  return value;
}

async function send(guarded: GuardedFetch, prepared: Prepared, signal: AbortSignal): Promise<ToolTest> {
  const { http, request } = prepared;
  const waitSeconds = Math.min(http.timeoutSeconds, longestSeconds);
  const deadline = { signal: AbortSignal.any([signal, AbortSignal.timeout(waitSeconds * 1000)]) };
  const startedAt = performance.now();
  try {
    // Read more than is shown: a secret in the response must not be cut in two.
    const response = await guarded.fetch({ ...request, maxBytes: shownBytes * 4 }, deadline);
    const { milliseconds } = response;
    const wouldTimeOut = milliseconds > http.timeoutSeconds * 1000;
    return {
      request: toRequest(prepared),
      response: toResponse(response, prepared.forms),
      error: null,
      latencyMs: milliseconds,
      wouldTimeOut,
    };
  } catch (error) {
    if (!(error instanceof SendFailed)) throw error;
    const { reason } = error;
    const milliseconds = Math.round(performance.now() - startedAt);
    const wouldTimeOut = reason === "timeout" && milliseconds >= http.timeoutSeconds * 1000 - 50;
    const message = reason === "timeout" ? timeoutMessage(http, waitSeconds) : failureMessages[reason];
    return {
      request: toRequest(prepared),
      response: null,
      error: { reason, message },
      latencyMs: milliseconds,
      wouldTimeOut,
    };
  }
}

function timeoutMessage({ timeoutSeconds }: HttpDefinition, waitSeconds: number): string {
  const message = `The tool did not respond within ${waitSeconds} s.`;
  return timeoutSeconds > waitSeconds
    ? `${message} In a call its timeout is ${timeoutSeconds} s; a test does not wait that long.`
    : message;
}

function toRequest({ request: { method, url, headers, body }, forms }: Prepared): ToolTest["request"] {
  return {
    method,
    url: maskSecrets(url, forms),
    headers: maskAll(headers, forms),
    body: body === undefined ? null : maskSecrets(body, forms),
  };
}

function toResponse({ status, headers, body, truncated }: FetchAnswer, forms: string[]): ToolTest["response"] {
  const whole = maskSecrets(truncated ? withoutPartialSecret(body, forms) : body, forms);
  const shown = new TextDecoder().decode(Buffer.from(whole).subarray(0, shownBytes), { stream: true });
  return { status, headers: maskAll(headers, forms), body: shown, truncated: truncated || shown.length < whole.length };
}

const maskAll = (texts: Record<string, string>, forms: string[]) =>
  Object.fromEntries(Object.entries(texts).map(([name, text]) => [maskSecrets(name, forms), maskSecrets(text, forms)]));
