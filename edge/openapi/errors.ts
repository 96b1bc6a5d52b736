import { docUrl, type ErrorCode, errorCodes } from "../../routers/core/errors.ts";
import type { RestOperation } from "../rest/operations.ts";
import { exampleRequestId } from "./examples.ts";
import { titleOfStatus } from "./status-titles.ts";

type Response = { description: string; headers: Record<string, object>; content: Record<string, object> };

type Admission = { description: string; schemes: ("apiKey" | "accessToken")[]; errors: ErrorCode[] };

/** Who may call an operation, with which credential, and with which errors others are refused. */
export function admissionOf({ meta: { access, scope }, type }: RestOperation): Admission {
  if (access === "operator") {
    const description = `Only for operators of this installation, with a person's token. A token with platform scopes needs \`${scope}\`.`;
    return { description, schemes: ["accessToken"], errors: ["platform_required", "scope_missing"] };
  }
  if (scope !== null) {
    return {
      description: `Requires the scope \`${scope}\`.`,
      schemes: ["apiKey", "accessToken"],
      errors: ["client_required", "client_forbidden", "client_suspended", "scope_missing"],
    };
  }
  // Before a client is chosen: a key may read whose it is, but only a person may become a member of a client.
  return type === "mutation"
    ? {
        description: "Requires a person's token; API keys are refused.",
        schemes: ["accessToken"],
        errors: ["client_forbidden"],
      }
    : {
        description: "Accepts any API key, and the token of any registered person.",
        schemes: ["apiKey", "accessToken"],
        errors: ["client_suspended", "scope_missing"],
      };
}

/** The errors that an operation may return besides its own. */
function commonErrors(operation: RestOperation): ErrorCode[] {
  const { takesBody, input, type } = operation;
  const codes: ErrorCode[] = ["input_invalid", "unauthenticated", ...admissionOf(operation).errors];
  codes.push("rate_limit_exceeded", "internal_error", "server_overloaded");
  if (input?._zod.def.shape.cursor) codes.push("cursor_invalid");
  if (type === "mutation") codes.push("header_invalid", "idempotency_in_progress", "idempotency_key_reused");
  if (takesBody) codes.push("json_invalid", "payload_too_large", "media_type_unsupported");
  return codes;
}

/** Each error status of an operation, with its codes in the order of the table. */
export function errorsByStatus(operation: RestOperation): Map<number, ErrorCode[]> {
  const wanted = new Set<string>([...commonErrors(operation), ...operation.meta.errors]);
  const byStatus = new Map<number, ErrorCode[]>();
  for (const code of errorCodesOf.filter((each) => wanted.has(each))) {
    const { status } = errorCodes[code];
    byStatus.set(status, [...(byStatus.get(status) ?? []), code]);
  }
  return byStatus;
}

/** `Object.keys` loses the type of the keys. */
export const errorCodesOf = Object.keys(errorCodes) as ErrorCode[];

/** A name per set of codes, so that equal responses are written once. */
export const responseName = (status: number, codes: ErrorCode[]) => `${status}.${codes.join(".")}`;

/** A provider's refusal or unavailability is stored under the idempotency key like any other outcome. */
const kept: ErrorCode[] = ["provider_rejected", "provider_unavailable"];

const waits = (status: number, codes: ErrorCode[]) =>
  status === 429 || status === 503 || codes.some((code) => code.endsWith("_busy"));

function headerNames(status: number, codes: ErrorCode[]): string[] {
  return [
    "X-Request-Id",
    ...["RateLimit", "RateLimit-Policy"],
    ...(status === 401 ? ["WWW-Authenticate"] : []),
    ...(waits(status, codes) ? ["Retry-After"] : []),
    ...(codes.some((code) => kept.includes(code)) ? ["Idempotency-Replayed"] : []),
  ];
}

export function errorResponse(status: number, codes: ErrorCode[]): Response {
  return {
    description: [
      titleOfStatus(status) ?? "Failure",
      ...codes.map((code) => `- \`${code}\`: ${errorCodes[code].meaning}`),
    ].join("\n"),
    headers: Object.fromEntries(headerNames(status, codes).map((name) => [name, header(name)])),
    content: {
      "application/json": {
        schema: {
          type: "object",
          required: ["error"],
          additionalProperties: false,
          properties: {
            error: {
              allOf: [
                { $ref: "#/components/schemas/Failure" },
                { type: "object", properties: { code: { type: "string", enum: codes } } },
              ],
            },
          },
        },
        examples: Object.fromEntries(codes.map((code) => [code, { value: errorExample(code) }])),
      },
    },
  };
}

const header = (name: string) => ({ $ref: `#/components/headers/${name}` });

function errorExample(code: ErrorCode) {
  const details =
    code === "input_invalid" ? { details: [{ path: "limit", message: "Use a number of at most 100." }] } : {};
  return {
    error: {
      code,
      message: errorCodes[code].meaning,
      requestId: exampleRequestId,
      docUrl: docUrl("https://api.example.com", code),
      ...details,
    },
  };
}
