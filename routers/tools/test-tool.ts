import type { Tx } from "../../db/client.ts";
import type { ProviderQuery } from "../core/call-provider.ts";
import { ApiError } from "../core/errors.ts";
import { maskSecrets, secretForms, withoutPartialSecret } from "../core/mask-secrets.ts";
import { openCredential } from "../credentials/service.ts";
import type { FetchAnswer, GuardedFetch } from "../ports/guarded-fetch.ts";
import type { Cipher } from "../ports/vault.ts";
import { SendFailed, type SendFailure } from "../ports/webhook-sender.ts";
import type { HttpDefinition } from "./definition.ts";
import { objectionsTo, requestOf, type ToolRequest } from "./request.ts";
import type { TestTool, ToolTest } from "./schema.ts";
import { getTool } from "./service.ts";

type Asked = { http: HttpDefinition; request: ToolRequest; forms: string[] };

/** A request of ours waits no longer, however long the tool may take in a call. */
const longestSeconds = 20;
const shownBytes = 4096;

const reasons: Record<SendFailure, string> = {
  address_forbidden: "The address of the tool is not on the open internet.",
  name_not_resolved: "The host of the tool has no address: check its name.",
  connection_failed: "No connection could be made, or it broke.",
  tls_failed: "The certificate of the host was not accepted.",
  answer_malformed: "What came back is not HTTP.",
  request_malformed: "The request could not be made: a header or the secret holds characters that it cannot hold.",
  timeout: "No answer came in time.",
};

/** Runs a tool as the voice provider would, without a call. That the tool fails is an answer too. */
export function testTool(
  input: TestTool,
  ring: Cipher,
  guarded: GuardedFetch,
): ProviderQuery<Asked, ToolTest, ToolTest> {
  return {
    read: (tx) => prepare(tx, input, ring),
    execute: (asked, { signal }) => send(guarded, asked, signal),
    record: async (_tx, _asked, got) => got,
  };
}

async function prepare(tx: Tx, { id, parameters, samples }: TestTool, ring: Cipher): Promise<Asked> {
  const { kind, definition: http } = await getTool(tx, id);
  if (http.type !== "http") {
    const message = `Only an http tool can be tried; this one is ${kind}.`;
    throw new ApiError("input_invalid", message, { details: [{ path: "id", message }] });
  }
  const details = objectionsTo(http, parameters);
  if (details[0]) throw new ApiError("input_invalid", `${details[0].path}: ${details[0].message}`, { details });
  const secret = http.auth ? await secretOf(tx, ring, http.auth.credential) : null;
  return {
    http,
    request: requestOf(http, parameters, samples, secret),
    forms: secret === null ? [] : secretForms(secret),
  };
}

async function secretOf(tx: Tx, ring: Cipher, provider: string): Promise<string> {
  const value = (await openCredential(tx, ring, provider))?.value;
  if (value === undefined) {
    throw new ApiError("credential_not_found", `The tool shows ${provider}, which is not stored any more.`);
  }
  return value;
}

async function send(guarded: GuardedFetch, asked: Asked, signal: AbortSignal): Promise<ToolTest> {
  const { http, request } = asked;
  const waitSeconds = Math.min(http.timeoutSeconds, longestSeconds);
  const deadline = { signal: AbortSignal.any([signal, AbortSignal.timeout(waitSeconds * 1000)]) };
  const began = performance.now();
  try {
    // More is read than is shown: a secret that the tool gives back must not be cut in two.
    const answer = await guarded.fetch({ ...request, maxBytes: shownBytes * 4 }, deadline);
    const { milliseconds } = answer;
    const wouldTimeOut = milliseconds > http.timeoutSeconds * 1000;
    return { request: sent(asked), response: heard(answer, asked.forms), error: null, milliseconds, wouldTimeOut };
  } catch (error) {
    if (!(error instanceof SendFailed)) throw error;
    const { reason } = error;
    const milliseconds = Math.round(performance.now() - began);
    const wouldTimeOut = reason === "timeout" && milliseconds >= http.timeoutSeconds * 1000 - 50;
    const said = { reason, message: reason === "timeout" ? waited(http, waitSeconds) : reasons[reason] };
    return { request: sent(asked), response: null, error: said, milliseconds, wouldTimeOut };
  }
}

function waited({ timeoutSeconds }: HttpDefinition, waitSeconds: number): string {
  const here = `No answer came within ${waitSeconds} s.`;
  return timeoutSeconds > waitSeconds
    ? `${here} In a call the tool has ${timeoutSeconds} s, which are not waited for here.`
    : here;
}

function sent({ request: { method, url, headers, body }, forms }: Asked): ToolTest["request"] {
  return {
    method,
    url: maskSecrets(url, forms),
    headers: hideAll(headers, forms),
    body: body === undefined ? null : maskSecrets(body, forms),
  };
}

function heard({ status, headers, body, truncated }: FetchAnswer, forms: string[]): ToolTest["response"] {
  const whole = maskSecrets(truncated ? withoutPartialSecret(body, forms) : body, forms);
  const shown = new TextDecoder().decode(Buffer.from(whole).subarray(0, shownBytes), { stream: true });
  return { status, headers: hideAll(headers, forms), body: shown, truncated: truncated || shown.length < whole.length };
}

const hideAll = (texts: Record<string, string>, forms: string[]) =>
  Object.fromEntries(Object.entries(texts).map(([name, text]) => [maskSecrets(name, forms), maskSecrets(text, forms)]));
