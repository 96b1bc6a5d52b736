import { TRPCError } from "@trpc/server";
import { z } from "zod";
import { ConnectionLost, DatabaseBusy, isDeadlock, SessionRefused } from "../../db/client.ts";
import { KeysUnavailable } from "../ports/vault.ts";
import { andMore, boundedDetails, boundedMessage, type FaultDetail } from "./error-details.ts";

const codeOfStatus = {
  400: "BAD_REQUEST",
  401: "UNAUTHORIZED",
  402: "PAYMENT_REQUIRED",
  403: "FORBIDDEN",
  404: "NOT_FOUND",
  405: "METHOD_NOT_SUPPORTED",
  408: "TIMEOUT",
  409: "CONFLICT",
  413: "PAYLOAD_TOO_LARGE",
  415: "UNSUPPORTED_MEDIA_TYPE",
  422: "UNPROCESSABLE_CONTENT",
  429: "TOO_MANY_REQUESTS",
  431: "BAD_REQUEST", // tRPC has no word of its own for it
  500: "INTERNAL_SERVER_ERROR",
  502: "BAD_GATEWAY",
  503: "SERVICE_UNAVAILABLE",
} as const satisfies Record<number, TRPCError["code"]>;

type Row = { status: keyof typeof codeOfStatus; meaning: string };

/** Every way a request may fail on purpose. The error guide and openapi.json are generated from this table. */
export const errorCodes = {
  request_malformed: { status: 400, meaning: "This is not an HTTP request that can be read." },
  json_invalid: {
    status: 400,
    meaning: "The body is not JSON. Send a JSON object with `Content-Type: application/json`.",
  },
  input_invalid: { status: 400, meaning: "A field is missing, unknown or malformed; `details` names each one." },
  header_invalid: { status: 400, meaning: "A header is malformed; the message names it." },
  cursor_invalid: {
    status: 400,
    meaning: "The cursor does not belong to this list with these filters. Start from the first page.",
  },
  client_required: { status: 400, meaning: "You belong to several clients. Name one with `X-Client-Id`." },
  batch_not_allowed: { status: 400, meaning: "An idempotency key covers one mutation. Send it alone, not in a batch." },
  unauthenticated: { status: 401, meaning: "The token or API key is missing, malformed, expired or revoked." },
  credits_insufficient: {
    status: 402,
    meaning: "The balance does not cover what this would cost at most. Add credits.",
  },
  client_forbidden: { status: 403, meaning: "You may not act for this client." },
  client_suspended: { status: 403, meaning: "This client is suspended. Ask the operator." },
  platform_required: { status: 403, meaning: "Only operators of this installation may do this." },
  invitation_forbidden: { status: 403, meaning: "This invitation is for another e-mail address." },
  scope_missing: {
    status: 403,
    meaning: "The key or role lacks the scope that this door asks for; the message names it.",
  },
  route_not_found: { status: 404, meaning: "There is no such path. See /docs." },
  agent_not_found: { status: 404, meaning: "No agent with this id in this client." },
  call_not_found: { status: 404, meaning: "No call with this id in this client." },
  api_key_not_found: { status: 404, meaning: "No API key with this id in this client." },
  resource_not_found: { status: 404, meaning: "Nothing with this id in this client." },
  webhook_not_found: { status: 404, meaning: "No webhook endpoint with this id in this client." },
  event_not_found: { status: 404, meaning: "No event with this id in this client, or it is past its age." },
  delivery_not_found: { status: 404, meaning: "No delivery with this id in this client." },
  replay_not_found: { status: 404, meaning: "No replay with this id in this client." },
  ingress_event_not_found: { status: 404, meaning: "No message of a provider with this id, or it is past its age." },
  delivery_pause_not_found: { status: 404, meaning: "Nothing is paused there." },
  set_apart_not_found: { status: 404, meaning: "No row of a system loop is set apart under this id." },
  voice_not_found: { status: 404, meaning: "No voice with this id in this client." },
  knowledge_base_not_found: { status: 404, meaning: "No knowledge base with this id in this client." },
  knowledge_file_not_found: { status: 404, meaning: "No file with this id in this knowledge base." },
  tool_not_found: { status: 404, meaning: "No tool with this id in this client." },
  upload_not_found: { status: 404, meaning: "No upload with this id in this client, or it has run out." },
  number_not_found: { status: 404, meaning: "No assigned number with this id." },
  agent_version_not_found: { status: 404, meaning: "This agent has no version of this number." },
  credential_not_found: { status: 404, meaning: "No credential for this provider in this client." },
  recording_not_found: {
    status: 404,
    meaning: "There is no recording of this call: it was not recorded, or is erased.",
  },
  registration_not_found: { status: 404, meaning: "No SIP registration with this id in this client." },
  inbound_route_not_found: { status: 404, meaning: "No inbound routing rule with this id in this client." },
  client_not_found: { status: 404, meaning: "No client with this id." },
  member_not_found: { status: 404, meaning: "No member with this id in this client." },
  user_not_found: { status: 404, meaning: "Nobody here has this id." },
  invitation_not_found: { status: 404, meaning: "No such invitation; it may have been withdrawn, or have run out." },
  workflow_not_found: { status: 404, meaning: "No workflow run with this id." },
  method_not_allowed: {
    status: 405,
    meaning: "This path exists, but not with this method. `Allow` lists those it has.",
  },
  body_timeout: { status: 408, meaning: "The body did not come to its end in time. Send it again, in one go." },
  idempotency_in_progress: {
    status: 409,
    meaning: "The first request with this key is still running. Ask again in a moment.",
  },
  agent_busy: { status: 409, meaning: "The agent is being changed at the voice provider. Try again in a moment." },
  agent_not_active: { status: 409, meaning: "The agent is not active, so it cannot take calls." },
  call_not_ended: { status: 409, meaning: "The call has not ended yet, so its transcript is not final." },
  agent_version_not_live: { status: 409, meaning: "This version never went live, so it cannot be restored." },
  call_not_joined: {
    status: 409,
    meaning: "Nobody has answered this call, or it is over: there is nothing to hang up.",
  },
  output_schema_missing: {
    status: 409,
    meaning: "The agent has no `outputSchema`, so there is nothing to fill. Give it one first.",
  },
  output_rerun_running: { status: 409, meaning: "The outputs of this agent are being filled anew already." },
  recording_not_ready: { status: 409, meaning: "The recording is still being fetched. Try again in a moment." },
  voice_not_active: { status: 409, meaning: "The voice is not active, so it cannot be used; the message says why." },
  voice_busy: { status: 409, meaning: "The voice is being made or changed. Try again in a moment." },
  voice_transition_invalid: {
    status: 409,
    meaning: "A voice in this status cannot go there; the message names both.",
  },
  voice_in_use: {
    status: 409,
    meaning: "Agents speak with this voice; `details` names them. Use `force` to delete it all the same.",
  },
  knowledge_base_not_ready: {
    status: 409,
    meaning: "The knowledge base has nothing in it that could be asked; the message says why.",
  },
  knowledge_base_full: {
    status: 409,
    meaning:
      "The knowledge base holds as many files and addresses as it can; the message says for how many there is room.",
  },
  knowledge_file_not_failed: {
    status: 409,
    meaning:
      "Only a file that failed can be tried again, and web pages that are ready; the message says how it stands.",
  },
  knowledge_base_busy: { status: 409, meaning: "The knowledge base is being made or changed. Try again in a moment." },
  knowledge_base_in_use: {
    status: 409,
    meaning: "Agents use this knowledge base; `details` names them. Use `force` to delete it all the same.",
  },
  tool_not_active: { status: 409, meaning: "The tool is not active, so it cannot be used; the message says why." },
  tool_busy: { status: 409, meaning: "The tool is being changed at the voice provider. Try again in a moment." },
  tool_in_use: {
    status: 409,
    meaning: "Agents use this tool; `details` names them. Use `force` to delete it all the same.",
  },
  api_key_not_active: {
    status: 409,
    meaning: "This API key is revoked, has expired or was replaced already. Make a new one.",
  },
  api_key_limit_reached: {
    status: 409,
    meaning: "This client has as many active API keys as one may have. Revoke one first.",
  },
  webhook_disabled: { status: 409, meaning: "The endpoint is switched off. Enable it first." },
  webhook_limit_reached: {
    status: 409,
    meaning: "This client has as many webhook endpoints as one may have. Delete one first.",
  },
  webhook_secret_limit_reached: {
    status: 409,
    meaning:
      "Ten secrets of this endpoint sign already. Wait until one of the earlier ones has run out, or end them all at once with `overlapHours: 0`.",
  },
  event_expired: { status: 409, meaning: "The event is past its age and is kept no longer, so it cannot be sent." },
  replay_running: {
    status: 409,
    meaning: "A replay to this endpoint is under way. Wait for it, or cancel it; `details` names it.",
  },
  replay_finished: { status: 409, meaning: "The replay is over already." },
  tool_name_taken: { status: 409, meaning: "Another tool of this client has this name." },
  credential_in_use: { status: 409, meaning: "Something still needs this credential; `details` names it." },
  inbound_route_taken: {
    status: 409,
    meaning:
      "The number is not free: a route of yours answers it, or it is assigned to another client; the message says which. Ask the operator, or use a provider account of your own.",
  },
  inbound_route_limit_reached: {
    status: 409,
    meaning:
      "This client has as many inbound routes as one may have. Delete one, or use a pattern for several numbers.",
  },
  number_taken: {
    status: 409,
    meaning:
      "This number, or something that the pattern fits, is assigned already; `details` names it. Release that first.",
  },
  agent_in_use: {
    status: 409,
    meaning: "Inbound routes lead to this agent; `details` names them. Change them first, or use `force`.",
  },
  agent_needs_variables: {
    status: 409,
    meaning:
      "The agent needs variables, and a call that comes in brings none. Give each a default, or make it not required; `details` says where.",
  },
  registration_taken: { status: 409, meaning: "This SIP account is registered here already." },
  registration_busy: {
    status: 409,
    meaning: "The registration is being changed at the voice provider. Try again in a moment.",
  },
  owner_required: { status: 409, meaning: "A client keeps at least one owner." },
  member_exists: { status: 409, meaning: "This person is a member already." },
  workflow_not_failed: { status: 409, meaning: "Only a failed workflow can be taken up again." },
  upload_not_complete: { status: 409, meaning: "The file is not in storage yet: PUT it to the URL that was given." },
  payload_too_large: { status: 413, meaning: "The body is larger than this door accepts." },
  media_type_unsupported: { status: 415, meaning: "Send the body as `application/json` in UTF-8." },
  idempotency_key_reused: { status: 422, meaning: "This key was used for another request. Use a fresh key." },
  provider_rejected: {
    status: 422,
    meaning: "The voice provider refused this request; the message says why. The same request will be refused again.",
  },
  credential_refused: {
    status: 422,
    meaning: "The provider does not accept this credential; the message says what it answered.",
  },
  provider_account_in_use: {
    status: 422,
    meaning: "Another client here, or the installation itself, uses this provider account already.",
  },
  provider_account_unreachable: {
    status: 422,
    meaning:
      "This installation has no public address, so an account of your own could not tell it of calls. Ask the operator.",
  },
  credential_limit_reached: {
    status: 422,
    meaning: "A client keeps at most 100 secrets of its own. Delete one first.",
  },
  url_forbidden: {
    status: 422,
    meaning: "This URL cannot be used: it must be https and must not lead to a private address.",
  },
  upload_mismatch: {
    status: 422,
    meaning: "What lies in storage is not what was announced: its size, type or checksum differs.",
  },
  webhook_url_forbidden: {
    status: 422,
    meaning: "This URL cannot be a webhook: it must be https and must not lead to a private address.",
  },
  export_too_large: {
    status: 422,
    meaning: "More calls pass these filters than one export may hold. Narrow it, and export in parts.",
  },
  rate_limit_exceeded: { status: 429, meaning: "Too many requests. Wait for `Retry-After` seconds." },
  headers_too_large: { status: 431, meaning: "The headers are larger than this server reads: 16 kB together." },
  internal_error: {
    status: 500,
    meaning: "A fault of ours. It is logged under the request id; trying again may help.",
  },
  provider_unavailable: {
    status: 503,
    meaning: "The voice provider cannot be reached or is overloaded. Nothing was done. Try again later.",
  },
  server_overloaded: { status: 503, meaning: "This server has too much to do at once. Try again in a moment." },
} as const satisfies Record<string, Row>;

export type { FaultDetail };
export type ErrorCode = keyof typeof errorCodes;
type Extra = { details?: FaultDetail[]; retryAfterSeconds?: number; cause?: unknown };

/** Every 503 says when to come again, also where nobody knows it exactly. */
const comeAgainSeconds = 5;

/**
 * A deliberate failure: a code for machines, a sentence for people that says what to do. Its size is bounded here, since both
 * may repeat what a caller sent.
 */
export class ApiError extends TRPCError {
  readonly errorCode: ErrorCode;
  readonly status: number;
  readonly details: FaultDetail[] | undefined;
  readonly retryAfterSeconds: number | undefined;

  constructor(
    fault: ErrorCode,
    message: string = errorCodes[fault].meaning,
    { details, retryAfterSeconds, cause }: Extra = {},
  ) {
    const kept = details && boundedDetails(details);
    const more = andMore((details?.length ?? 0) - (kept?.length ?? 0));
    super({ code: codeOfStatus[errorCodes[fault].status], message: boundedMessage(message) + more, cause });
    this.errorCode = fault;
    this.status = errorCodes[fault].status;
    this.details = kept;
    const wait = retryAfterSeconds ?? (this.status === 503 ? comeAgainSeconds : undefined);
    this.retryAfterSeconds = wait === undefined ? undefined : Math.max(1, wait);
  }

  /** `input_invalid` for one field. `path` is the field's path with dots, as in `steps.0.url`. */
  static invalid(path: string, message: string): ApiError {
    return new ApiError("input_invalid", `${path || "The body"}: ${message}`, { details: [{ path, message }] });
  }
}

/** What went wrong, as the world may hear it. A bug becomes `internal_error` and keeps its cause for the log alone. */
export function toApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof TRPCError) {
    if (error.cause instanceof ApiError) return error.cause;
    const known = fromDatabase(error.cause);
    if (known) return known;
    if (error.code === "BAD_REQUEST" && error.cause instanceof z.core.$ZodError) return invalidInput(error.cause);
    if (error.code === "PARSE_ERROR")
      return new ApiError("json_invalid", "`connectionParams` is not JSON. Leave it out.");
    if (error.code === "BAD_REQUEST" && error.cause instanceof SyntaxError) return new ApiError("json_invalid");
    if (error.code === "BAD_REQUEST")
      return new ApiError("input_invalid", "The input could not be read.", { cause: error });
    if (error.code === "NOT_FOUND") return new ApiError("route_not_found", undefined, { cause: error });
    if (error.code === "METHOD_NOT_SUPPORTED") return new ApiError("method_not_allowed", undefined, { cause: error });
    if (error.code === "UNSUPPORTED_MEDIA_TYPE")
      return new ApiError("media_type_unsupported", undefined, { cause: error });
    if (error.code === "PAYLOAD_TOO_LARGE") return new ApiError("payload_too_large", undefined, { cause: error });
  }
  const known = fromDatabase(error);
  if (known) return known;
  return new ApiError("internal_error", "Internal error. Quote the request id when you ask about it.", {
    cause: error,
  });
}

function fromDatabase(error: unknown): ApiError | undefined {
  if (error instanceof SessionRefused)
    return new ApiError(error.reason === "key" ? "unauthenticated" : "client_suspended");
  if (error instanceof DatabaseBusy || error instanceof ConnectionLost || isDeadlock(error)) {
    return new ApiError("server_overloaded", undefined, { retryAfterSeconds: 1, cause: error });
  }
  if (error instanceof KeysUnavailable) {
    const message = "What is kept sealed cannot be opened at the moment. Nothing was done. Try again shortly.";
    return new ApiError("server_overloaded", message, { retryAfterSeconds: 5, cause: error });
  }
  if (error instanceof Error && "code" in error && unreachable.has(String(error.code))) {
    return new ApiError("server_overloaded", undefined, { retryAfterSeconds: 1, cause: error });
  }
}

/** What postgres.js and the socket say when the database is away, starting or stopping. */
const unreachable = new Set([
  "CONNECTION_CLOSED",
  "CONNECTION_DESTROYED",
  "CONNECTION_ENDED",
  "CONNECT_TIMEOUT",
  "ECONNREFUSED",
  "ECONNRESET",
  "57P01",
  "57P02",
  "57P03",
  "53300",
]);

function invalidInput(error: z.core.$ZodError): ApiError {
  const details = error.issues.flatMap((issue) => {
    const path = issue.path.join(".");
    if (issue.code !== "unrecognized_keys") return [{ path, message: issue.message }];
    return issue.keys.map((key) => ({ path: path ? `${path}.${key}` : key, message: "There is no such field." }));
  });
  const first = details[0];
  const message = first ? `${first.path || "The body"}: ${first.message}` : errorCodes.input_invalid.meaning;
  return new ApiError("input_invalid", message, { details, cause: error });
}

export const docUrl = (code: ErrorCode) => `/docs/errors#${code}`;
