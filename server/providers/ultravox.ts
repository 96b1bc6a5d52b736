import type { z } from "zod";
import { type Deadline, ProviderError, type Ultravox } from "../../routers/providers.ts";
import { type Attempt, type Breaker, before, openBreaker, type Pace, type ProviderRequest, send } from "./http.ts";
import { Call, duration, Event, Message, mediumBody, Page, templateBody, UltravoxAgent } from "./ultravox-schema.ts";

export type UltravoxOptions = {
  baseUrl: string;
  apiKeyOf: (accountId: string) => Promise<string>;
  /**
   * Host, with port and transport if need be, at which numbers are dialled over SIP:
   * `trunk.example:5061;transport=tls`.
   */
  sipTrunk?: string;
  log?: (attempt: Attempt) => void;
  pace?: Pace;
  breaker?: { failures?: number; halfOpenAfterMs?: number };
};

type Ask<T> = Pick<ProviderRequest<T>, "method" | "repeat"> & {
  path: string;
  query?: Record<string, string>;
  body?: object;
  read: (bytes: Buffer) => T;
  secrets?: string[];
};

const pageSize = 100;
const maxPages = 200;

/** The provider's clock and ours differ a little; a call must not be missed for it. */
const clockSkewMs = 5 * 60_000;

/**
 * The Ultravox Realtime API (docs.ultravox.ai/api-reference). It has no idempotency keys: see `repeat` of each verb.
 */
export function ultravox(options: UltravoxOptions): Ultravox {
  const baseUrl = options.baseUrl.replace(/\/+$/, "");
  const breakers = new Map<string, Breaker>();

  function breakerOf(accountId: string): Breaker {
    const breaker = breakers.get(accountId) ?? openBreaker(options.breaker);
    breakers.set(accountId, breaker);
    return breaker;
  }

  async function ask<T>(accountId: string, ask: Ask<T>, { signal }: Deadline): Promise<T> {
    const apiKey = await keyOf(accountId, signal);
    const query = ask.query ? `?${new URLSearchParams(ask.query)}` : "";
    return send({
      provider: "Ultravox",
      method: ask.method,
      url: `${baseUrl}${ask.path}${query}`,
      headers: {
        accept: "application/json",
        "x-api-key": apiKey,
        ...(ask.body ? { "content-type": "application/json" } : {}),
      },
      ...(ask.body ? { body: JSON.stringify(ask.body) } : {}),
      deadline: signal,
      repeat: ask.repeat,
      breaker: breakerOf(accountId),
      read: ask.read,
      secrets: [apiKey, ...(ask.secrets ?? [])],
      log: options.log,
      pace: options.pace,
    });
  }

  /** Without the key nothing was sent, whatever was to be asked. */
  async function keyOf(accountId: string, signal: AbortSignal): Promise<string> {
    try {
      return await before(signal, options.apiKeyOf(accountId));
    } catch (cause) {
      if (cause instanceof ProviderError) throw cause;
      throw new ProviderError("unavailable", "The API key of this Ultravox account could not be read", { cause });
    }
  }

  /** Every item of a list, or an error: half a list would pass for an absence. */
  async function all<T extends z.ZodType>(
    accountId: string,
    list: { path: string; query: Record<string, string>; item: T },
    deadline: Deadline,
  ): Promise<z.output<T>[]> {
    const items: z.output<T>[] = [];
    const seen = new Set<string>();
    let cursor: string | null = null;
    for (let page = 1; page <= maxPages; page += 1) {
      const query: Record<string, string> = { ...list.query, pageSize: `${pageSize}`, ...(cursor ? { cursor } : {}) };
      const read = json(Page(list.item));
      const found: z.output<typeof read.schema> = await ask(
        accountId,
        { method: "GET", repeat: "safe", path: list.path, query, read: read.from },
        deadline,
      );
      items.push(...found.results);
      if (!found.next) return items;
      cursor = cursorIn(found.next, baseUrl);
      if (cursor === null || seen.has(cursor)) break;
      seen.add(cursor);
    }
    throw new ProviderError("unavailable", `Ultravox's list ${list.path} does not come to an end`);
  }

  return {
    createAgent: (accountId, { id, template }, deadline) =>
      ask(
        accountId,
        {
          method: "POST",
          repeat: "create",
          path: "/api/agents",
          body: { name: id, callTemplate: templateBody(template, "create") },
          read: json(UltravoxAgent).from,
        },
        deadline,
      ),

    updateAgent: (accountId, providerAgentId, template, deadline) =>
      ask(
        accountId,
        {
          method: "PATCH",
          repeat: "safe",
          path: `/api/agents/${encodeURIComponent(providerAgentId)}`,
          body: { callTemplate: templateBody(template, "update") },
          read: json(UltravoxAgent).from,
        },
        deadline,
      ),

    async findAgents(accountId, agentId, deadline) {
      const list = { path: "/api/agents", query: { search: agentId }, item: UltravoxAgent };
      return (await all(accountId, list, deadline)).filter((agent) => agent.name === agentId);
    },

    async deleteAgent(accountId, providerAgentId, deadline) {
      const path = `/api/agents/${encodeURIComponent(providerAgentId)}`;
      // A repeat finds nothing when the first attempt got through; gone is gone.
      await unless(404, undefined, ask(accountId, { method: "DELETE", repeat: "safe", path, read: nothing }, deadline));
    },

    createCall(accountId, call, deadline) {
      const medium = mediumBody(call.medium, options.sipTrunk);
      if (!medium) {
        return Promise.reject(new ProviderError("refused", "No SIP trunk is configured to dial a number at"));
      }
      const password = call.medium.kind === "sip" ? call.medium.password : undefined;
      return ask(
        accountId,
        {
          method: "POST",
          repeat: "create",
          path: `/api/agents/${encodeURIComponent(call.providerAgentId)}/calls`,
          body: {
            templateContext: call.variables,
            metadata: { callId: call.callId, clientId: call.clientId },
            medium,
            joinTimeout: duration(call.joinTimeoutSeconds),
            maxDuration: duration(call.maxDurationSeconds),
            recordingEnabled: call.recordingEnabled,
          },
          read: json(Call).from,
          secrets: password ? [password] : [],
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
      const { event, call } = Event.parse(parsed(rawBody));
      return { event, call };
    },
  };
}

/** The only part of `next` that we follow: its host is the provider's claim, and our key goes to our own base URL. */
function cursorIn(next: string, baseUrl: string): string | null {
  return URL.canParse(next, baseUrl) ? new URL(next, baseUrl).searchParams.get("cursor") : null;
}

function json<S extends z.ZodType>(schema: S) {
  return { schema, from: (bytes: Buffer): z.output<S> => schema.parse(JSON.parse(bytes.toString("utf8"))) };
}

/** What is not JSON is not an event either; undefined lets the schema say so. */
function parsed(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString("utf8"));
  } catch {
    return undefined;
  }
}

function nothing(): void {}

async function unless<T, U>(status: number, instead: U, asked: Promise<T>): Promise<T | U> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof ProviderError && error.kind === "refused" && error.status === status) return instead;
    throw error;
  }
}
