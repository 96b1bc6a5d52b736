import type { z } from "zod";
import { storable } from "../../../db/text.ts";
import { type Deadline, ProviderError } from "../../../routers/ports/provider-error.ts";
import { before } from "../http/abort.ts";
import { type Breaker, openBreaker } from "../http/breaker.ts";
import { type Attempt, type Pace, type ProviderRequest, send } from "../http/client.ts";
import { type Download, download } from "../http/download.ts";
import { listPages } from "./pages.ts";
import { openStorage } from "./storage.ts";

export type UltravoxOptions = {
  baseUrl: string;
  apiKeyOf: (accountId: string) => Promise<string>;
  /** The installation's own accounts, by our ids: no client may connect one of them as their own. */
  installationAccounts?: readonly string[];
  /** Our public URL; without it no account can send us webhooks. */
  publicUrl?: string | undefined;
  /**
   * Host, with port and transport if necessary, at which numbers are dialled over SIP:
   * `trunk.example:5061;transport=tls`.
   */
  sipTrunk?: string | undefined;
  log?: (attempt: Attempt) => void;
  pace?: Pace;
  breaker?: { failures?: number; halfOpenAfterMs?: number };
};

export type UltravoxRequest<T> = Pick<ProviderRequest<T>, "method" | "repeat" | "readLocation"> & {
  path: string;
  query?: Record<string, string>;
  body?: object;
  /** Instead of a body: fields and files, as multipart/form-data. */
  form?: FormData;
  /** The media type of the response, if it is not JSON. */
  accept?: string;
  read: (bytes: Buffer) => T;
  secrets?: readonly string[];
};

export type UltravoxList<T extends z.ZodType> = {
  path: string;
  query: Record<string, string>;
  item: T;
  /**
   * What the caller looks for: an item that can be it contains one of these texts. A row that cannot be read and has none of
   * them is of somebody else at a shared account, and is left out. Without `about`, every row counts.
   */
  about?: readonly string[];
};

/** Requests to the accounts of Ultravox, each with its API key and its breaker. */
export type UltravoxClient = {
  /** `apiKey`: one that belongs to no account yet. */
  request<T>(accountId: string, request: UltravoxRequest<T>, deadline: Deadline, apiKey?: string): Promise<T>;
  /** Every item that can be looked for, or an error: an incomplete list would be taken for an absence. */
  listAll<T extends z.ZodType>(accountId: string, list: UltravoxList<T>, deadline: Deadline): Promise<z.output<T>[]>;
  /** Uploads a file to a presigned link of the provider, without our key. */
  put(link: string, file: { contentType: string; bytes: Buffer }, deadline: Deadline): Promise<void>;
  /** Streams a file. The provider may redirect to its storage, where the key is not sent. */
  download(accountId: string, path: string, deadline: Deadline): Promise<Download>;
  /** Downloads from a presigned link of the provider, without our key. */
  fetch(link: string, accept: string, deadline: Deadline): Promise<Buffer>;
  /** Deletes. A 404 is a success: a retry finds nothing after the first attempt has succeeded. */
  remove(accountId: string, path: string, deadline: Deadline): Promise<void>;
};

export function openUltravoxClient(options: UltravoxOptions): UltravoxClient {
  const baseUrl = options.baseUrl.replace(/\/+$/, "");
  const breakers = new Map<string, Breaker>();

  function breakerOf(accountId: string): Breaker {
    const breaker = breakers.get(accountId) ?? openBreaker(options.breaker);
    breakers.set(accountId, breaker);
    return breaker;
  }

  async function request<T>(
    accountId: string,
    { query, secrets = [], ...request }: UltravoxRequest<T>,
    { signal }: Deadline,
    newApiKey?: string,
  ): Promise<T> {
    const apiKey = newApiKey ?? (await apiKeyOf(options, accountId, signal));
    const body = await encoded(request);
    return send({
      provider: "Ultravox",
      method: request.method,
      url: `${baseUrl}${request.path}${query ? `?${new URLSearchParams(query)}` : ""}`,
      headers: {
        accept: request.accept ?? "application/json",
        "x-api-key": apiKey,
        ...(body && { "content-type": body.contentType }),
      },
      body: body?.content,
      deadline: signal,
      repeat: request.repeat,
      breaker: breakerOf(accountId),
      read: request.read,
      readLocation: request.readLocation,
      secrets: [apiKey, ...secrets],
      log: options.log,
      pace: options.pace,
    });
  }

  return {
    ...openStorage({ ...options, baseUrl }),
    request,
    listAll: (accountId, list, deadline) => listPages(list, baseUrl, (page) => request(accountId, page, deadline)),
    async download(accountId, path, { signal }) {
      const headers = { accept: "audio/*", "x-api-key": await apiKeyOf(options, accountId, signal) };
      return download({ provider: "Ultravox", url: `${baseUrl}${path}`, headers, deadline: signal, log: options.log });
    },
    remove: (accountId, path, deadline) =>
      unless(404, undefined, request(accountId, { method: "DELETE", repeat: "safe", path, read: () => {} }, deadline)),
  };
}

/** Without the key nothing was sent, so the request did not happen. */
async function apiKeyOf(options: UltravoxOptions, accountId: string, signal: AbortSignal): Promise<string> {
  try {
    return await before(signal, options.apiKeyOf(accountId));
  } catch (cause) {
    if (cause instanceof ProviderError) throw cause;
    throw new ProviderError("unavailable", "The API key of this Ultravox account could not be read", { cause });
  }
}

type Encoded = { contentType: string; content: string | Buffer };

async function encoded({ body, form }: Pick<UltravoxRequest<unknown>, "body" | "form">): Promise<Encoded | null> {
  if (body) return { contentType: "application/json", content: JSON.stringify(body) };
  if (!form) return null;
  const encoding = new Response(form);
  const contentType = encoding.headers.get("content-type") ?? "multipart/form-data";
  return { contentType, content: Buffer.from(await encoding.arrayBuffer()) };
}

/** Makes a response storable before it is parsed, so that the database can store every text in it. */
export function json<S extends z.ZodType>(schema: S) {
  return { schema, from: (bytes: Buffer): z.output<S> => schema.parse(storable(JSON.parse(bytes.toString("utf8")))) };
}

/** Returns `instead` if the provider refuses with this status. */
export async function unless<T, U>(status: number, instead: U, response: Promise<T>): Promise<T | U> {
  try {
    return await response;
  } catch (error) {
    if (error instanceof ProviderError && error.kind === "refused" && error.status === status) return instead;
    throw error;
  }
}
