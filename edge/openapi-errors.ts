import { docUrl, type FaultCode, faults } from "../routers/fault.ts";
import type { RestDoor } from "./doors.ts";
import { exampleRequestId } from "./openapi-examples.ts";

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

/** The failures that a door may answer beside its own, by what kind of door it is. */
function commonFaults({ meta, takesBody, item }: RestDoor): FaultCode[] {
  const codes: FaultCode[] = ["invalid_input", "invalid_header", "unauthenticated", "client_forbidden"];
  codes.push("client_suspended", "limit_exceeded", "internal_error", "overloaded");
  if (meta.wall === "client") codes.push("client_required");
  if (meta.scope) codes.push("scope_missing");
  if (item) codes.push("cursor_invalid");
  if (takesBody) codes.push("invalid_json", "payload_too_large", "media_type_unsupported");
  if (takesBody) codes.push("idempotency_in_progress", "idempotency_key_reused");
  return codes;
}

/** Each status that a door may fail with, and the codes that it may carry there, in the fault table's order. */
export function faultsByStatus(door: RestDoor): Map<number, FaultCode[]> {
  const wanted = new Set<string>([...commonFaults(door), ...door.meta.faults]);
  const byStatus = new Map<number, FaultCode[]>();
  for (const code of faultCodes.filter((each) => wanted.has(each))) {
    const { status } = faults[code];
    byStatus.set(status, [...(byStatus.get(status) ?? []), code]);
  }
  return byStatus;
}

/** `Object.keys` forgets which keys they are. */
export const faultCodes = Object.keys(faults) as FaultCode[];

/** A name that tells two sets of codes apart, so that equal responses are written once. */
export const responseName = (status: number, codes: FaultCode[]) => `${status}.${codes.join(".")}`;

export function errorResponse(status: number, codes: FaultCode[]): Response {
  const withRetry: Record<string, object> =
    status === 429 || status === 503 ? { "Retry-After": header("Retry-After") } : {};
  return {
    description: [
      headlines[status] ?? "Failure",
      ...codes.map((code) => `- \`${code}\`: ${faults[code].meaning}`),
    ].join("\n"),
    headers: { "X-Request-Id": header("X-Request-Id"), ...withRetry },
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

function errorExample(code: FaultCode) {
  const details =
    code === "invalid_input" ? { details: [{ path: "limit", message: "Too big: expected number to be <=100" }] } : {};
  return {
    error: { code, message: faults[code].meaning, requestId: exampleRequestId, docUrl: docUrl(code), ...details },
  };
}
