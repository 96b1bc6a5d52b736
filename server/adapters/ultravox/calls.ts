import { storable } from "../../../db/text.ts";
import { ProviderError } from "../../../routers/ports/provider-error.ts";
import type { AgentTemplate, CallRequest, UltravoxCalls } from "../../../routers/ports/ultravox.ts";
import { json, type Line, parsed, unless } from "./http-client.ts";
import { Call, duration, firstSpeakerSettings, Message, mediumBody, readEvent, templateBody } from "./schema.ts";

/** The provider's clock and ours differ a little; a call must not be missed for it. */
const clockSkewMs = 5 * 60_000;

export function callsOf(
  { ask, all, download, remove }: Line,
  { sipTrunk, publicUrl }: { sipTrunk: string | undefined; publicUrl: string | undefined },
): UltravoxCalls {
  return {
    createCall(accountId, call, deadline) {
      const medium = mediumBody(call.medium, { sipTrunk, legsUrl: legsUrl(publicUrl, call) });
      if (!medium) {
        return Promise.reject(new ProviderError("refused", "No SIP trunk is configured to dial a number at"));
      }
      const password = call.medium.kind === "sip" ? call.medium.password : undefined;
      const tokens = (call.pinned?.tools ?? []).flatMap(({ authTokens }) => Object.values(authTokens ?? {}));
      return ask(
        accountId,
        {
          method: "POST",
          repeat: "create",
          // Without the agent the template's own variables are filled in already: /api/calls takes no templateContext.
          ...(call.pinned
            ? { path: "/api/calls", body: { ...withoutSchema(call.pinned), ...callBody(call, medium) } }
            : {
                path: `/api/agents/${encodeURIComponent(call.providerAgentId)}/calls`,
                body: { templateContext: call.variables, ...callBody(call, medium) },
              }),
          read: json(Call).from,
          secrets: [...(password ? [password] : []), ...tokens],
        },
        deadline,
      );
    },

    async findCalls(accountId, callId, since, deadline) {
      const fromDate = new Date(since.getTime() - clockSkewMs).toISOString();
      const list = { path: "/api/calls", query: { "metadata.callId": callId, fromDate }, item: Call };
      return (await all(accountId, list, deadline)).filter((call) => call.callId === callId);
    },

    getCall(accountId, providerCallId, deadline) {
      const path = `/api/calls/${encodeURIComponent(providerCallId)}`;
      return unless(
        404,
        null,
        ask(accountId, { method: "GET", repeat: "safe", path, read: json(Call).from }, deadline),
      );
    },

    async listMessages(accountId, providerCallId, deadline) {
      const path = `/api/calls/${encodeURIComponent(providerCallId)}/messages`;
      // The default mode, last_stage, leaves out what was said before a change of stage.
      const messages = await all(accountId, { path, query: { mode: "in_call" }, item: Message }, deadline);
      return messages.filter((message) => message !== null);
    },

    async hangUp(accountId, providerCallId, deadline) {
      const path = `/api/calls/${encodeURIComponent(providerCallId)}/send_data_message`;
      const body = { type: "hang_up" };
      // Hanging up twice does no harm, and 422 says that the call is not joined, or over (docs.ultravox.ai,
      // send_data_message).
      const asked = ask(
        accountId,
        { method: "POST", repeat: "safe", path, body, read: () => "done" as const },
        deadline,
      );
      return unless(422, "not_joined", asked);
    },

    readEvent(rawBody) {
      return readEvent(storable(parsed(rawBody)));
    },

    /** 404 and 425 are not in the published document, which knows 200 and 302 alone (openapi: calls_recording_retrieve). */
    async getRecording(accountId, providerCallId, deadline) {
      const path = `/api/calls/${encodeURIComponent(providerCallId)}/recording`;
      const opening = unless(404, "none" as const, download(accountId, path, deadline));
      const file = await unless(425, "not_ready" as const, opening);
      if (typeof file === "string") return file;
      if (!/^audio\/|\/octet-stream$/.test(file.contentType)) {
        throw new ProviderError("unavailable", `Ultravox gave ${file.contentType} for a recording`);
      }
      return file;
    },

    async deleteCall(accountId, providerCallId, deadline) {
      const path = `/api/calls/${encodeURIComponent(providerCallId)}`;
      // 400 for a call that goes on: client reports, not the schema, which declares no error (reference, Calls).
      return unless(
        400,
        "ongoing",
        remove(accountId, path, deadline).then(() => "done" as const),
      );
    },
  };
}

/** The address says which call it is, and whose key may have signed; neither is a secret. */
function legsUrl(publicUrl: string | undefined, { callId, clientId }: CallRequest): string | null {
  if (!publicUrl) return null;
  const url = new URL(`${publicUrl.replace(/\/+$/, "")}/api/v1/webhooks/telnyx`);
  url.searchParams.set("call", callId);
  url.searchParams.set("client", clientId);
  return url.href;
}

/** StartCallRequest has the fields of a template but for the schema of its variables. */
function withoutSchema(template: AgentTemplate) {
  const { contextSchema: _, ...body }: Record<string, unknown> = templateBody(template, "create");
  return body;
}

/** What a call has for itself, with or without an agent. */
function callBody(call: CallRequest, medium: Record<string, object>) {
  const { voice, opening } = call.overrides ?? {};
  return {
    metadata: { callId: call.callId, clientId: call.clientId },
    medium,
    joinTimeout: duration(call.joinTimeoutSeconds),
    maxDuration: duration(call.maxDurationSeconds),
    recordingEnabled: call.recordingEnabled,
    ...(voice === undefined ? {} : { voice }),
    ...(opening === undefined ? {} : { firstSpeakerSettings: firstSpeakerSettings(opening) }),
  };
}
