type ErrorRow = { status: number; meaning: string };

/** Every way a request can fail on purpose. The error guide and openapi.json are generated from this table. */
export const errorCodes = {
  request_malformed: { status: 400, meaning: "The server could not read this as an HTTP request." },
  json_invalid: {
    status: 400,
    meaning: "The body is not valid JSON. Send a JSON object with `Content-Type: application/json`.",
  },
  input_invalid: { status: 400, meaning: "A field is missing, unknown or malformed. `details` lists each field." },
  header_invalid: { status: 400, meaning: "A header is malformed. The message names it." },
  cursor_invalid: {
    status: 400,
    meaning: "The cursor does not match this list and these filters. Start from the first page.",
  },
  client_required: { status: 400, meaning: "You belong to several clients. Choose one with the `X-Client-Id` header." },
  batch_not_allowed: {
    status: 400,
    meaning: "An idempotency key covers one mutation. Send each mutation in a request by itself.",
  },
  unauthenticated: { status: 401, meaning: "The token or API key is missing, malformed, expired or revoked." },
  credits_insufficient: {
    status: 402,
    meaning: "The balance does not cover the maximum cost of this request. Add credits.",
  },
  client_forbidden: { status: 403, meaning: "You have no access to this client." },
  client_suspended: { status: 403, meaning: "This client is suspended. Contact the operator." },
  platform_required: { status: 403, meaning: "Only operators of this installation can use this endpoint." },
  invitation_forbidden: { status: 403, meaning: "This invitation was sent to another email address." },
  scope_missing: {
    status: 403,
    meaning: "The API key or role lacks the scope that this endpoint requires. The message names the scope.",
  },
  route_not_found: { status: 404, meaning: "This path does not exist. See /docs." },
  agent_not_found: { status: 404, meaning: "This client has no agent with this id." },
  call_not_found: { status: 404, meaning: "This client has no call with this id." },
  api_key_not_found: { status: 404, meaning: "This client has no API key with this id." },
  resource_not_found: { status: 404, meaning: "This client has no resource with this id." },
  webhook_not_found: { status: 404, meaning: "This client has no webhook endpoint with this id." },
  event_not_found: { status: 404, meaning: "This client has no event with this id, or its retention has ended." },
  delivery_not_found: { status: 404, meaning: "This client has no delivery with this id." },
  replay_not_found: { status: 404, meaning: "This client has no replay with this id." },
  ingress_event_not_found: {
    status: 404,
    meaning: "There is no provider message with this id, or its retention has ended.",
  },
  delivery_pause_not_found: { status: 404, meaning: "Deliveries are not paused for this scope." },
  set_apart_not_found: { status: 404, meaning: "No system loop has set a row apart under this id." },
  voice_not_found: { status: 404, meaning: "This client has no voice with this id." },
  knowledge_base_not_found: { status: 404, meaning: "This client has no knowledge base with this id." },
  knowledge_file_not_found: { status: 404, meaning: "This knowledge base has no file with this id." },
  tool_not_found: { status: 404, meaning: "This client has no tool with this id." },
  upload_not_found: { status: 404, meaning: "This client has no upload with this id, or the upload has expired." },
  number_not_found: { status: 404, meaning: "There is no assigned number with this id." },
  agent_version_not_found: { status: 404, meaning: "This agent has no version with this number." },
  credential_not_found: { status: 404, meaning: "This client has no credential for this provider." },
  recording_not_found: {
    status: 404,
    meaning: "This call has no recording: it was not recorded, or the recording was erased.",
  },
  registration_not_found: { status: 404, meaning: "This client has no SIP registration with this id." },
  inbound_route_not_found: { status: 404, meaning: "This client has no inbound route with this id." },
  client_not_found: { status: 404, meaning: "There is no client with this id." },
  member_not_found: { status: 404, meaning: "This client has no member with this id." },
  user_not_found: { status: 404, meaning: "There is no user with this id." },
  invitation_not_found: { status: 404, meaning: "There is no such invitation, or it was withdrawn or has expired." },
  workflow_not_found: { status: 404, meaning: "There is no workflow run with this id." },
  method_not_allowed: {
    status: 405,
    meaning: "This path does not support this method. The `Allow` header lists the supported methods.",
  },
  body_timeout: { status: 408, meaning: "The request body did not arrive in time. Send the request again." },
  idempotency_in_progress: {
    status: 409,
    meaning: "The first request with this idempotency key is still running. Retry in a moment.",
  },
  agent_busy: { status: 409, meaning: "Another change to this agent is in progress. Retry in a moment." },
  agent_not_active: { status: 409, meaning: "The agent is not active, so it cannot take calls." },
  call_not_ended: {
    status: 409,
    meaning: "The call has not ended, so its transcript is not final. Retry after the call.",
  },
  agent_version_not_live: { status: 409, meaning: "This version was never live, so it cannot be restored." },
  call_not_joined: {
    status: 409,
    meaning: "The call has not been answered or is already over, so there is nothing to hang up.",
  },
  output_schema_missing: {
    status: 409,
    meaning: "The agent has no `outputSchema`, so there are no outputs to fill. Add an `outputSchema` first.",
  },
  output_rerun_running: {
    status: 409,
    meaning: "A rerun of this agent's outputs is in progress. Wait until it has finished.",
  },
  recording_not_ready: { status: 409, meaning: "The recording is still being fetched. Retry in a moment." },
  voice_not_active: {
    status: 409,
    meaning: "The voice is not active, so it cannot be used. The message explains why.",
  },
  voice_busy: { status: 409, meaning: "The voice is being created or changed. Retry in a moment." },
  voice_transition_invalid: {
    status: 409,
    meaning: "A voice cannot change from its present status to this one. The message names both.",
  },
  voice_in_use: {
    status: 409,
    meaning: "Agents use this voice; `details` lists them. Pass `force=true` to delete it anyway.",
  },
  knowledge_base_not_ready: {
    status: 409,
    meaning: "The knowledge base has no content to query. The message explains why.",
  },
  knowledge_base_full: {
    status: 409,
    meaning: "The knowledge base has reached its limit of files and URLs. The message gives the remaining capacity.",
  },
  knowledge_file_not_failed: {
    status: 409,
    meaning: "Only a failed file, or a web page that is ready, can be ingested again. The message gives its status.",
  },
  knowledge_base_busy: { status: 409, meaning: "The knowledge base is being created or changed. Retry in a moment." },
  knowledge_base_in_use: {
    status: 409,
    meaning: "Agents use this knowledge base; `details` lists them. Pass `force=true` to delete it anyway.",
  },
  tool_not_active: { status: 409, meaning: "The tool is not active, so it cannot be used. The message explains why." },
  tool_busy: { status: 409, meaning: "Another change to this tool is in progress. Retry in a moment." },
  tool_in_use: {
    status: 409,
    meaning: "Agents use this tool; `details` lists them. Pass `force=true` to delete it anyway.",
  },
  api_key_not_active: {
    status: 409,
    meaning: "This API key is revoked, expired or already replaced. Create a new one.",
  },
  api_key_limit_reached: {
    status: 409,
    meaning: "This client has reached its limit of active API keys. Revoke one first.",
  },
  webhook_disabled: { status: 409, meaning: "The webhook endpoint is disabled. Enable it first." },
  webhook_limit_reached: {
    status: 409,
    meaning: "This client has reached its limit of webhook endpoints. Delete one first.",
  },
  webhook_secret_limit_reached: {
    status: 409,
    meaning:
      "This endpoint already signs with ten secrets. Wait until an earlier one expires, or end all earlier ones with `overlapHours: 0`.",
  },
  event_expired: { status: 409, meaning: "The retention of this event has ended, so it cannot be sent." },
  replay_running: {
    status: 409,
    meaning: "A replay to this endpoint is running; `details` names it. Wait until it finishes, or cancel it.",
  },
  replay_finished: { status: 409, meaning: "The replay has already finished." },
  tool_name_taken: { status: 409, meaning: "Another tool of this client has this name. Choose another name." },
  credential_in_use: {
    status: 409,
    meaning: "Other resources use this credential; `details` lists them. Change or delete them first.",
  },
  inbound_route_taken: {
    status: 409,
    meaning:
      "This number is not available: another of your routes has it, or it is assigned to another client. Contact the operator, or use your own provider account.",
  },
  inbound_route_limit_reached: {
    status: 409,
    meaning:
      "This client has reached its limit of inbound routes. Delete one, or cover several numbers with one pattern.",
  },
  number_taken: {
    status: 409,
    meaning: "This number, or one that matches the pattern, is already assigned; `details` names it. Release it first.",
  },
  agent_in_use: {
    status: 409,
    meaning: "Inbound routes use this agent; `details` lists them. Change them first, or pass `force=true`.",
  },
  agent_variables_required: {
    status: 409,
    meaning:
      "The agent requires variables, and an inbound call has none. Give each a default or make it optional; `details` lists them.",
  },
  registration_taken: { status: 409, meaning: "This SIP account is already registered here." },
  registration_busy: { status: 409, meaning: "Another change to this registration is in progress. Retry in a moment." },
  owner_required: { status: 409, meaning: "A client must keep at least one owner." },
  member_exists: { status: 409, meaning: "This person is already a member." },
  workflow_not_failed: { status: 409, meaning: "Only a failed workflow can be retried." },
  upload_not_complete: {
    status: 409,
    meaning: "The file is not in storage yet. Upload it with PUT to the presigned URL first.",
  },
  payload_too_large: { status: 413, meaning: "The body is larger than this endpoint accepts." },
  media_type_unsupported: {
    status: 415,
    meaning: "The content type is not supported. Send `application/json` in UTF-8.",
  },
  idempotency_key_reused: {
    status: 422,
    meaning: "This idempotency key belongs to a different request. Use a new key.",
  },
  provider_rejected: {
    status: 422,
    meaning: "The provider rejected this request, and will reject it again unchanged. The message explains why.",
  },
  credential_refused: {
    status: 422,
    meaning: "The provider does not accept this credential. The message has the provider's response.",
  },
  provider_account_in_use: {
    status: 422,
    meaning: "Another client, or the installation itself, already uses this provider account.",
  },
  provider_account_unreachable: {
    status: 422,
    meaning:
      "This installation has no public address, so it cannot receive webhooks from your own account. Contact the operator.",
  },
  credential_limit_reached: {
    status: 422,
    meaning: "This client has reached its limit of 100 secrets. Delete one first.",
  },
  url_forbidden: {
    status: 422,
    meaning: "This URL is not allowed. It must use https and must not lead to a private address.",
  },
  upload_mismatch: {
    status: 422,
    meaning: "The size, type or checksum of the stored file differs from what was declared. Start a new upload.",
  },
  webhook_url_forbidden: {
    status: 422,
    meaning: "This URL is not allowed for a webhook. It must use https and must not lead to a private address.",
  },
  export_too_large: {
    status: 422,
    meaning: "More calls match these filters than one export can hold. Narrow the filters and export in parts.",
  },
  rate_limit_exceeded: { status: 429, meaning: "Too many requests. Retry after the seconds in `Retry-After`." },
  headers_too_large: { status: 431, meaning: "The headers exceed the limit of 16 kB in total." },
  internal_error: {
    status: 500,
    meaning: "An unexpected error on our side. It is logged with the request id; a retry may succeed.",
  },
  provider_unavailable: {
    status: 503,
    meaning: "The provider is unreachable or overloaded, and nothing was changed. Retry later.",
  },
  server_overloaded: { status: 503, meaning: "The server is overloaded. Retry in a moment." },
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof errorCodes;
export type ErrorStatus = (typeof errorCodes)[ErrorCode]["status"];
