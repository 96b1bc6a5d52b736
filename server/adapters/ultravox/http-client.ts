import type { z } from "zod";
import { storable } from "../../../db/text.ts";
import { type Deadline, ProviderError } from "../../../routers/ports/provider-error.ts";
import { type Download, download } from "../download.ts";
import { type Attempt, type Breaker, before, openBreaker, type Pace, type ProviderRequest, send } from "../http.ts";
import { Page } from "./schema.ts";

export type UltravoxOptions = {
  baseUrl: string;
  apiKeyOf: (accountId: string) => Promise<string>;
  /** Accounts that are the installation's, by our ids: no client may bring one of them as his own. */
  installationAccounts?: readonly string[];
  /** Where the world reaches us; without it no account can tell us of its calls. */
  publicUrl?: string;
  /**
   * Host, with port and transport if need be, at which numbers are dialled over SIP:
   * `trunk.example:5061;transport=tls`.
   */
  sipTrunk?: string;
  log?: (attempt: Attempt) => void;
  pace?: Pace;
  breaker?: { failures?: number; halfOpenAfterMs?: number };
};

export type Ask<T> = Pick<ProviderRequest<T>, "method" | "repeat" | "readLocation"> & {
  path: string;
  query?: Record<string, string>;
  body?: object;
  /** Instead of a body: fields and files, as multipart/form-data. */
  form?: FormData;
  /** What is wanted back, where it is no JSON. */
  accept?: string;
  read: (bytes: Buffer) => T;
  secrets?: string[];
};

/** Ten megabytes over a slow line. */
const putTimeoutMs = 45_000;
const pageSize = 100;
const maxPages = 200;

/** How requests reach one account after another: its key, its breaker, its pages. */
export type Line = {
  /** `apiKey`: one that no account has yet. */
  ask<T>(accountId: string, ask: Ask<T>, deadline: Deadline, apiKey?: string): Promise<T>;
  /** Every item of a list, or an error: half a list would pass for an absence. */
  all<T extends z.ZodType>(
    accountId: string,
    list: { path: string; query: Record<string, string>; item: T },
    deadline: Deadline,
  ): Promise<z.output<T>[]>;
  /** Puts a file where the provider said, by a link that is good for a while: no key of ours goes there. */
  put(link: string, file: { contentType: string; bytes: Buffer }, deadline: Deadline): Promise<void>;
  /** A file, as it comes in. The provider may send us on to its storage; the key does not go there. */
  download(accountId: string, path: string, deadline: Deadline): Promise<Download>;
  /** Fetches a file from where the provider said, as `put` puts one. */
  fetch(link: string, accept: string, deadline: Deadline): Promise<Buffer>;
  /** Deletes; gone is gone: a repeat finds nothing when the first attempt got through. */
  remove(accountId: string, path: string, deadline: Deadline): Promise<void>;
};

export function openLine(options: UltravoxOptions): Line {
  const baseUrl = options.baseUrl.replace(/\/+$/, "");
  const breakers = new Map<string, Breaker>();

  function breakerOf(accountId: string): Breaker {
    const breaker = breakers.get(accountId) ?? openBreaker(options.breaker);
    breakers.set(accountId, breaker);
    return breaker;
  }

  async function ask<T>(accountId: string, ask: Ask<T>, { signal }: Deadline, given?: string): Promise<T> {
    const apiKey = given ?? (await keyOf(accountId, signal));
    const query = ask.query ? `?${new URLSearchParams(ask.query)}` : "";
    const body = await encoded(ask);
    return send({
      provider: "Ultravox",
      method: ask.method,
      url: `${baseUrl}${ask.path}${query}`,
      headers: {
        accept: ask.accept ?? "application/json",
        "x-api-key": apiKey,
        ...(body ? { "content-type": body.contentType } : {}),
      },
      ...(body ? { body: body.content } : {}),
      deadline: signal,
      repeat: ask.repeat,
      breaker: breakerOf(accountId),
      read: ask.read,
      readLocation: ask.readLocation,
      secrets: [apiKey, ...(ask.secrets ?? [])],
      log: options.log,
      pace: options.pace,
    });
  }

  const storage = openBreaker(options.breaker);

  function usable(link: string): URL {
    const url = URL.canParse(link) ? new URL(link) : null;
    // In plain text only where the provider itself is spoken to so: on a laptop.
    if (url && (url.protocol === "https:" || url.origin === new URL(baseUrl).origin)) return url;
    throw new ProviderError("unavailable", "Ultravox gave a link to a file that cannot be used");
  }

  async function fetch(link: string, accept: string, { signal }: Deadline): Promise<Buffer> {
    const url = usable(link);
    return send({
      provider: "Ultravox's storage",
      method: "GET",
      url: link,
      headers: { accept },
      deadline: signal,
      repeat: "safe",
      breaker: storage,
      read: (bytes) => bytes,
      secrets: [...url.searchParams.values()],
      log: options.log,
      pace: options.pace,
    });
  }

  async function put(link: string, file: { contentType: string; bytes: Buffer }, { signal }: Deadline): Promise<void> {
    const url = usable(link);
    await send({
      provider: "Ultravox's storage",
      method: "PUT",
      url: link,
      headers: { "content-type": file.contentType },
      body: file.bytes,
      deadline: signal,
      repeat: "safe",
      breaker: storage,
      read: nothing,
      secrets: [...url.searchParams.values()],
      log: options.log,
      pace: { attemptTimeoutMs: putTimeoutMs, ...options.pace },
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

  async function openFile(accountId: string, path: string, { signal }: Deadline): Promise<Download> {
    const apiKey = await keyOf(accountId, signal);
    const headers = { accept: "audio/*", "x-api-key": apiKey };
    return download({ provider: "Ultravox", url: `${baseUrl}${path}`, headers, deadline: signal, log: options.log });
  }

  return {
    ask,
    all,
    download: openFile,
    put,
    fetch,
    remove: (accountId, path, deadline) =>
      unless(404, undefined, ask(accountId, { method: "DELETE", repeat: "safe", path, read: nothing }, deadline)),
  };
}

async function encoded({
  body,
  form,
}: Ask<unknown>): Promise<{ contentType: string; content: string | Buffer } | null> {
  if (body) return { contentType: "application/json", content: JSON.stringify(body) };
  if (!form) return null;
  const encoding = new Response(form);
  const contentType = encoding.headers.get("content-type") ?? "multipart/form-data";
  return { contentType, content: Buffer.from(await encoding.arrayBuffer()) };
}

/** The only part of `next` that we follow: its host is the provider's claim, and our key goes to our own base URL. */
function cursorIn(next: string, baseUrl: string): string | null {
  return URL.canParse(next, baseUrl) ? new URL(next, baseUrl).searchParams.get("cursor") : null;
}

/** What a provider writes is cleaned as it comes in: nothing behind this wall meets a text that cannot be kept. */
export function json<S extends z.ZodType>(schema: S) {
  return { schema, from: (bytes: Buffer): z.output<S> => schema.parse(storable(JSON.parse(bytes.toString("utf8")))) };
}

/** What is not JSON is not an event either; undefined lets the schema say so. */
export function parsed(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString("utf8"));
  } catch {
    return undefined;
  }
}

function nothing(): void {}

export async function unless<T, U>(status: number, instead: U, asked: Promise<T>): Promise<T | U> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof ProviderError && error.kind === "refused" && error.status === status) return instead;
    throw error;
  }
}
