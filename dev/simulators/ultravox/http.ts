import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { accountRoutes } from "./account.ts";
import { adminRoutes } from "./admin.ts";
import { agentRoutes } from "./agents.ts";
import { callRoutes } from "./calls.ts";
import { corpusRoutes } from "./corpora.ts";
import { uploadRoutes } from "./documents.ts";
import { delayOf, type Fault, faultAfter, faultBefore } from "./faults.ts";
import { storedRecording } from "./recording.ts";
import { redact } from "./redact.ts";
import { Refusal } from "./requests.ts";
import { findRoute, type Reply, type Route } from "./route.ts";
import { type Account, increment, type LoggedRequest, MAX_REQUESTS, type World } from "./state.ts";
import { telephonyRoutes } from "./telephony.ts";
import { toolRoutes } from "./tools.ts";
import { voiceRoutes } from "./voices.ts";

const MAX_BODY_BYTES = 12_000_000;

const storage: Route = {
  method: "GET",
  template: "/storage/recordings/{file}",
  resource: "other",
  handle: ({ world, id, query, hasApiKey }) => ({
    status: 200,
    ...storedRecording(world, id.replace(/\.wav$/, ""), query, hasApiKey),
  }),
};
const routes = [
  ...callRoutes,
  ...agentRoutes,
  ...voiceRoutes,
  ...accountRoutes,
  ...adminRoutes,
  ...corpusRoutes,
  ...uploadRoutes,
  ...telephonyRoutes,
  ...toolRoutes,
  storage,
];

export function serveWorld(world: World): Server {
  const server = createServer((request, response) => {
    serve(world, request, response).catch((error: unknown) => {
      if (request.errored) return; // the caller closed the connection in the middle of its request
      // A bug in the simulator: the caller gets a 500, the console shows the cause.
      console.error(error);
      if (!response.headersSent) send(response, { status: 500, body: { detail: "Internal error." } });
    });
  });
  server.keepAliveTimeout = 600_000; // a shorter time closes connections that a client is about to reuse
  return server;
}

async function serve(world: World, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? "/", `http://${request.headers.host ?? "127.0.0.1"}`);
  const method = request.method ?? "GET";
  const entry: LoggedRequest = {
    at: new Date().toISOString(),
    account: null,
    method,
    path: url.pathname,
    template: null,
    query: Object.fromEntries(
      [...new Set(url.searchParams.keys())].map((name) => [name, url.searchParams.getAll(name)]),
    ),
    body: null,
    status: 0,
    response: null,
  };
  const isApi = url.pathname.startsWith("/api/");
  if (isApi) keep(world, entry);
  const outcome = await answer(world, request, url, entry);
  if ("act" in outcome) return strike(outcome, entry, response);
  if (outcome.delaySeconds) await sleep(outcome.delaySeconds * 1000, undefined, { ref: false });
  entry.status = outcome.status;
  entry.response = redact(outcome.body ?? null);
  send(response, outcome);
}

function keep(world: World, entry: LoggedRequest): void {
  world.log.push(entry);
  if (world.log.length > MAX_REQUESTS) world.log.shift();
}

/** The result of the request: a response, or a fault in its place. */
async function answer(world: World, request: IncomingMessage, url: URL, entry: LoggedRequest): Promise<Reply | Fault> {
  try {
    const { route, ids } = findRoute(routes, entry.method, url.pathname);
    if (route.template.startsWith("/api/")) increment(world.counts.requests, `${route.method} ${route.template}`);
    entry.template = route.template;
    const account = route.template.startsWith("/api/") ? authenticate(world, request) : nobody;
    entry.account = account.id || null;
    const { raw, body, form } = await readBody(request);
    entry.body = redact(body ?? null);
    const before = route.kind && faultBefore(world.faults, route.kind, route.resource);
    if (before) return before;
    const reply = await route.handle({
      world,
      account,
      id: ids.at(-1) ?? "",
      ids,
      raw,
      ...(form && { form }),
      query: url.searchParams,
      body,
      origin: url.origin,
      address: url.origin + url.pathname,
      hasApiKey: request.headers["x-api-key"] !== undefined,
      contentType: request.headers["content-type"] ?? "",
    });
    const late = delayOf(world.faults, route.kind, route.resource);
    if (late > 0) return { ...reply, delaySeconds: late };
    return (route.kind && faultAfter(world.faults, route.kind, route.resource)) || reply;
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return { status: error.status, body: error.body, headers: error.headers };
  }
}

/** The admin endpoints and the storage need no API key. */
const nobody: Account = { id: "", apiKey: "", webhooks: [] };

function authenticate(world: World, request: IncomingMessage): Account {
  const key = request.headers["x-api-key"];
  if (key === undefined) throw new Refusal(403, "No API key was given.");
  const account = world.accounts.find(({ apiKey }) => apiKey === key);
  if (!account) throw new Refusal(403, "Invalid API key");
  return account;
}

type Body = { raw: Buffer; body?: unknown; form?: FormData };

async function readBody(request: IncomingMessage): Promise<Body> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    // Read to its end: a caller that is still sending would not see the response.
    if (size <= MAX_BODY_BYTES) chunks.push(chunk);
  }
  if (size > MAX_BODY_BYTES) throw new Refusal(413, "The body is too large.");
  const raw = Buffer.concat(chunks);
  if (size === 0) return { raw };
  const type = request.headers["content-type"] ?? "";
  if (type.startsWith("multipart/form-data")) return { raw, form: await readForm(raw, type) };
  if (request.url?.startsWith("/storage/")) return { raw };
  try {
    return { raw, body: JSON.parse(raw.toString("utf8")) };
  } catch {
    throw new Refusal(400, "The body is not JSON.");
  }
}

async function readForm(raw: Buffer, type: string): Promise<FormData> {
  try {
    return await new Response(new Uint8Array(raw), { headers: { "content-type": type } }).formData();
  } catch {
    throw new Refusal(400, "The form could not be read.");
  }
}

function strike(fault: Fault, entry: LoggedRequest, response: ServerResponse): void {
  if (fault.act === "reset") return void response.socket?.resetAndDestroy();
  if (fault.act === "hang") {
    const { socket } = response;
    const timer = setTimeout(() => socket?.destroy(), fault.holdMs).unref();
    return void socket?.once("close", () => clearTimeout(timer));
  }
  entry.status = fault.status;
  entry.response = { detail: "This fault was requested." };
  const wait = fault.retryAfterSeconds;
  const headers = wait !== undefined && { headers: { "Retry-After": String(wait) } };
  send(response, { status: fault.status, body: entry.response, ...headers });
}

function send(response: ServerResponse, { status, body, wav, cutAfterMs, headers }: Reply): void {
  if (wav && cutAfterMs !== undefined) return void cut(response, wav, cutAfterMs);
  if (wav) response.writeHead(status, { "Content-Type": "audio/wav", "Content-Length": wav.length }).end(wav);
  else if (body === undefined) response.writeHead(status, headers).end();
  else response.writeHead(status, { "Content-Type": "application/json", ...headers }).end(JSON.stringify(body));
}

/** Sends half of a file, then nothing more. */
function cut(response: ServerResponse, wav: Buffer, afterMs: number): void {
  response.writeHead(200, { "Content-Type": "audio/wav", "Content-Length": wav.length });
  response.write(wav.subarray(0, wav.length / 2));
  const timer = setTimeout(() => response.socket?.destroy(), afterMs).unref();
  response.once("close", () => clearTimeout(timer));
}
