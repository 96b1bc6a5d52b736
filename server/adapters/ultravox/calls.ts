import { storable } from "../../../db/text.ts";
import { ProviderError } from "../../../routers/ports/provider-error.ts";
import type { AgentTemplate, CallRequest, UltravoxCalls } from "../../../routers/ports/ultravox.ts";
import { parsedOrUndefined } from "../shared/json.ts";
import { Call, readEvent } from "./call.ts";
import { json, type UltravoxClient, unless } from "./http-client.ts";
import { mediumBody } from "./medium.ts";
import { Message } from "./message.ts";
import { firstSpeakerSettings, templateBody } from "./template.ts";
import { duration } from "./values.ts";

/** The provider's clock may differ a little from ours; a call must not be missed because of that. */
const clockSkewMs = 5 * 60_000;

type Options = { sipTrunk: string | undefined; publicUrl: string | undefined };

export function callsOf(client: UltravoxClient, options: Options): UltravoxCalls {
  const { request, listAll, remove } = client;
  return {
    createCall: async (accountId, call, deadline) => request(accountId, creation(call, options), deadline),

    async findCalls(accountId, callId, since, deadline) {
      const fromDate = new Date(since.getTime() - clockSkewMs).toISOString();
      const list = { path: "/api/calls", query: { "metadata.callId": callId, fromDate }, item: Call, about: [callId] };
      return (await listAll(accountId, list, deadline)).filter((call) => call.callId === callId);
    },

    getCall(accountId, providerCallId, deadline) {
      const get = { method: "GET", repeat: "safe", path: pathOf(providerCallId), read: json(Call).from } as const;
      return unless(404, null, request(accountId, get, deadline));
    },

    async listMessages(accountId, providerCallId, deadline) {
      // The default mode, last_stage, omits the messages before a change of stage.
      const list = { path: `${pathOf(providerCallId)}/messages`, query: { mode: "in_call" }, item: Message };
      return (await listAll(accountId, list, deadline)).filter((message) => message !== null);
    },

    hangUp(accountId, providerCallId, deadline) {
      const path = `${pathOf(providerCallId)}/send_data_message`;
      const body = { type: "hang_up" };
      // A second hang-up does no harm. 422: the call is not joined, or over (docs.ultravox.ai, send_data_message).
      const hangUp = { method: "POST", repeat: "safe", path, body, read: () => "done" as const } as const;
      return unless(422, "not_joined", request(accountId, hangUp, deadline));
    },

    readEvent: (rawBody) => readEvent(storable(parsedOrUndefined(rawBody))),

    getRecording: (accountId, providerCallId, deadline) =>
      recordingOf(client.download(accountId, `${pathOf(providerCallId)}/recording`, deadline)),

    // 400 for an active call: from client reports, not from the schema, which declares no error (reference, Calls).
    deleteCall: (accountId, providerCallId, deadline) =>
      unless(
        400,
        "ongoing",
        remove(accountId, pathOf(providerCallId), deadline).then(() => "done" as const),
      ),
  };
}

const pathOf = (providerCallId: string) => `/api/calls/${encodeURIComponent(providerCallId)}`;

/** Throws ProviderError when a number is to be dialled over SIP and there is no trunk. */
function creation(call: CallRequest, { sipTrunk, publicUrl }: Options) {
  const medium = mediumBody(call.medium, { sipTrunk, legsUrl: legsUrl(publicUrl, call) });
  if (!medium) throw new ProviderError("refused", "No SIP trunk is configured. Set SIP_TRUNK to dial numbers over SIP");
  const password = call.medium.kind === "sip" ? call.medium.password : undefined;
  const tokens = (call.pinned?.tools ?? []).flatMap(({ authTokens }) => Object.values(authTokens ?? {}));
  return {
    method: "POST",
    repeat: "create",
    // Without an agent the variables are already inserted in the template: /api/calls takes no templateContext.
    ...(call.pinned
      ? { path: "/api/calls", body: { ...withoutSchema(call.pinned), ...callBody(call, medium) } }
      : {
          path: `/api/agents/${encodeURIComponent(call.providerAgentId)}/calls`,
          body: { templateContext: call.variables, ...callBody(call, medium) },
        }),
    read: json(Call).from,
    secrets: [...(password ? [password] : []), ...tokens],
  } as const;
}

/** 404 and 425 are not in the published document, which has only 200 and 302 (openapi: calls_recording_retrieve). */
async function recordingOf(opening: ReturnType<UltravoxClient["download"]>) {
  const file = await unless(425, "not_ready" as const, unless(404, "none" as const, opening));
  if (typeof file === "string" || /^audio\/|\/octet-stream$/.test(file.contentType)) return file;
  throw new ProviderError("unavailable", `Ultravox returned ${file.contentType} for a recording`);
}

/** The URL names the call, and the client whose key may have signed; neither is secret. */
function legsUrl(publicUrl: string | undefined, { callId, clientId }: CallRequest): string | null {
  if (!publicUrl) return null;
  const url = new URL(`${publicUrl.replace(/\/+$/, "")}/api/v1/webhooks/telnyx`);
  url.searchParams.set("call", callId);
  url.searchParams.set("client", clientId);
  return url.href;
}

/** StartCallRequest has the fields of a template, except for the schema of its variables. */
function withoutSchema(template: AgentTemplate) {
  const { contextSchema: _, ...body }: Record<string, unknown> = templateBody(template, "create");
  return body;
}

/** The fields of a call, with or without an agent. */
function callBody(call: CallRequest, medium: Record<string, object>) {
  const { voice, opening } = call.overrides ?? {};
  return {
    metadata: { callId: call.callId, clientId: call.clientId },
    medium,
    joinTimeout: duration(call.joinTimeoutSeconds),
    maxDuration: duration(call.maxDurationSeconds),
    recordingEnabled: call.recordingEnabled,
    // Absent, not undefined: this is spread over a pinned template, whose own values must stay.
    ...(voice !== undefined && { voice }),
    ...(opening !== undefined && { firstSpeakerSettings: firstSpeakerSettings(opening) }),
  };
}
