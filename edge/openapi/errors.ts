import { docUrl, type ErrorCode, errorCodes } from "../../routers/core/errors.ts";
import type { RestOperation } from "../rest/operations.ts";
import { exampleRequestId } from "./examples.ts";

const headlines: Record<number, string> = {
  400: "Bad request",
  401: "Unauthenticated",
  402: "Payment required",
  403: "Forbidden",
  404: "Not found",
  405: "Method not allowed",
  408: "Timeout",
  409: "Conflict",
  413: "Too large",
  415: "Unsupported media type",
  422: "Unprocessable",
  429: "Too many requests",
  500: "Internal error",
  502: "Bad gateway",
  503: "Unavailable",
};

type Response = { description: string; headers: Record<string, object>; content: Record<string, object> };

type Admission = { says: string; schemes: ("apiKey" | "accessToken")[]; faults: ErrorCode[] };

/** Who may come in at a door, by what, and how others are refused. */
export function admissionOf({ meta: { access, scope }, type }: RestOperation): Admission {
  if (access === "operator") {
    const says = `Operators of this installation only, by a person's token; one that names scopes of the platform must name \`${scope}\`.`;
    return { says, schemes: ["accessToken"], faults: ["platform_required", "scope_missing"] };
  }
  if (scope !== null) {
    return {
      says: `Asks for the scope \`${scope}\`.`,
      schemes: ["apiKey", "accessToken"],
      faults: ["client_required", "client_forbidden", "client_suspended", "scope_missing"],
    };
  }
  // Before a client is chosen: a key may ask who it is, but only a person may come to belong to a client.
  return type === "mutation"
    ? { says: "Takes a person's own token and no API key.", schemes: ["accessToken"], faults: ["client_forbidden"] }
    : {
        says: "Any API key will do, and any token of somebody who is known here.",
        schemes: ["apiKey", "accessToken"],
        faults: ["client_suspended", "scope_missing"],
      };
}

/** The failures that a door may answer beside its own, by what kind of door it is. */
function commonFaults(door: RestOperation): ErrorCode[] {
  const { takesBody, input, type } = door;
  const codes: ErrorCode[] = ["input_invalid", "unauthenticated", ...admissionOf(door).faults];
  codes.push("rate_limit_exceeded", "internal_error", "server_overloaded");
  if (input?._zod.def.shape.cursor) codes.push("cursor_invalid");
  if (type === "mutation") codes.push("header_invalid", "idempotency_in_progress", "idempotency_key_reused");
  if (takesBody) codes.push("json_invalid", "payload_too_large", "media_type_unsupported");
  return codes;
}

/** Each status that a door may fail with, and the codes that it may carry there, in the fault table's order. */
export function errorsByStatus(door: RestOperation): Map<number, ErrorCode[]> {
  const wanted = new Set<string>([...commonFaults(door), ...door.meta.faults]);
  const byStatus = new Map<number, ErrorCode[]>();
  for (const code of errorCodesOf.filter((each) => wanted.has(each))) {
    const { status } = errorCodes[code];
    byStatus.set(status, [...(byStatus.get(status) ?? []), code]);
  }
  return byStatus;
}

/** `Object.keys` forgets which keys they are. */
export const errorCodesOf = Object.keys(errorCodes) as ErrorCode[];

/** A name that tells two sets of codes apart, so that equal responses are written once. */
export const responseName = (status: number, codes: ErrorCode[]) => `${status}.${codes.join(".")}`;

/** Refused by the body alone, before anybody counts. */
const uncounted = [413, 415];
/** What a provider refused, or could not be asked, is kept under the idempotency key like any other outcome. */
const kept: ErrorCode[] = ["provider_rejected", "provider_unavailable"];

const waits = (status: number, codes: ErrorCode[]) =>
  status === 429 || status === 503 || codes.some((code) => code.endsWith("_busy"));

function headerNames(status: number, codes: ErrorCode[]): string[] {
  return [
    "X-Request-Id",
    ...(uncounted.includes(status) ? [] : ["RateLimit", "RateLimit-Policy"]),
    ...(status === 401 ? ["WWW-Authenticate"] : []),
    ...(waits(status, codes) ? ["Retry-After"] : []),
    ...(codes.some((code) => kept.includes(code)) ? ["Idempotency-Replayed"] : []),
  ];
}

export function errorResponse(status: number, codes: ErrorCode[]): Response {
  return {
    description: [
      headlines[status] ?? "Failure",
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
    code === "input_invalid" ? { details: [{ path: "limit", message: "Too big: expected number to be <=100" }] } : {};
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
