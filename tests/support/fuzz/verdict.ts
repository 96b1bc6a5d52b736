import { errorCodes } from "../../../routers/core/errors.ts";
import type { DocumentReader, Operation } from "./document.ts";
import type { Wire, WireAnswer } from "./wire.ts";

const mostDetails = 20;
const mostBytes = 65_536;

/** Errors of the request itself, before an operation is chosen, or of the /trpc protocol. */
const ofNoOperation = ["route_not_found", "method_not_allowed", "headers_too_large", "request_malformed"];
const ofTrpc = ["json_invalid", "header_invalid", "payload_too_large", "media_type_unsupported", "batch_not_allowed"];

type Failure = { code: string; message: string; requestId: string; docUrl: string; details?: unknown };

/** The problem of a response, or null when it is valid. */
export function objectionTo(
  { transport }: Wire,
  { status, headers, body }: WireAnswer,
  reader: DocumentReader,
  operation: Operation | undefined,
): string | null {
  if (status >= 500) return `${status} ${body.subarray(0, 200)}`;
  if (!headers["x-request-id"]) return "no X-Request-Id";
  if (status === 204) return body.length === 0 ? null : "204 with a body";
  const type = String(headers["content-type"] ?? "");
  if (status < 400 && !type.startsWith("application/json")) return null;
  if (!type.startsWith("application/json")) return `${status} of the type ${type}`;
  const read = parsed(body);
  if (read === undefined) return `${status} is not JSON: ${body.subarray(0, 200)}`;
  if (status < 400) return operation ? successObjection(transport, status, read, reader, operation) : null;
  if (body.length > mostBytes) return `the error has ${body.length} bytes`;
  return failureObjection(transport, status, read, reader, operation);
}

function successObjection(
  transport: Wire["transport"],
  status: number,
  body: unknown,
  reader: DocumentReader,
  operation: Operation,
): string | null {
  if (transport === "rest") return reader.objection(operation, status, body);
  const results = Array.isArray(body) ? body : [body];
  for (const { result } of results as { result?: { data?: unknown } }[]) {
    if (!result) return `${status} without a result`;
    const documented = Object.keys(operation.responses).find((each) => each < "300") ?? "200";
    if (documented === "204") continue;
    const objection = reader.objection(operation, Number(documented), asRest(result.data));
    if (objection) return objection;
  }
  return null;
}

/** The /trpc response in the form of REST. */
function asRest(data: unknown): unknown {
  const meta = { requestId: "req_0" };
  if (typeof data === "object" && data !== null && "items" in data && "hasMore" in data) {
    const { items, nextCursor, hasMore } = data as Record<string, unknown>;
    return { data: items, meta: { ...meta, nextCursor, hasMore } };
  }
  return { data: data ?? null, meta };
}

function failureObjection(
  transport: Wire["transport"],
  status: number,
  body: unknown,
  reader: DocumentReader,
  operation: Operation | undefined,
): string | null {
  const bodies = Array.isArray(body) ? body : [body];
  for (const one of bodies as Record<string, unknown>[]) {
    if (transport === "trpc" && "result" in one) continue;
    const objection = envelopeObjection(transport, one);
    if (typeof objection === "string") return objection;
    const { code } = objection;
    const known = (errorCodes as Record<string, { status: number }>)[code];
    if (!known) return `the code ${code} is not in the table`;
    if (transport === "rest" && known.status !== status) return `${code} with the status ${status}`;
    if (!operation || ofNoOperation.includes(code) || (transport === "trpc" && ofTrpc.includes(code))) continue;
    if (!reader.codes(operation, known.status).includes(code)) return `${code} is not documented here`;
  }
  return null;
}

function envelopeObjection(transport: Wire["transport"], body: Record<string, unknown>): Failure | string {
  if (Object.keys(body).join() !== "error") return `no envelope: ${JSON.stringify(body).slice(0, 200)}`;
  const error = body.error as Record<string, unknown>;
  const { code, message, requestId, docUrl, details, ...more } =
    transport === "rest" ? error : { message: error.message, ...(error.data as object), httpStatus: undefined };
  const failure = { code, message, requestId, docUrl, details } as Failure;
  const extra = Object.keys(more).filter((name) => name !== "httpStatus");
  if (extra.length > 0) return `the envelope has more: ${extra}`;
  for (const text of [code, message, docUrl])
    if (typeof text !== "string" || !text) return "the envelope lacks a field";
  if (typeof requestId !== "string" && transport === "rest") return "the envelope has no request id";
  if (!/^http.+/.test(failure.docUrl) || !failure.docUrl.endsWith(`/docs/errors#${failure.code}`))
    return `docUrl is ${failure.docUrl}`;
  if (details === undefined) return failure;
  if (!Array.isArray(details)) return "details is no list";
  if (details.length > mostDetails) return `${details.length} details`;
  const isDetail = (one: unknown) =>
    typeof one === "object" && one !== null && Object.keys(one).toSorted().join() === "message,path";
  return details.every(isDetail) ? failure : `a detail is not { path, message }: ${JSON.stringify(details[0])}`;
}

function parsed(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString("utf8"));
  } catch {
    return undefined;
  }
}
