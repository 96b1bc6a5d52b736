import { hash } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { Webhook } from "standardwebhooks";
import { serve } from "./child.ts";
import { clock } from "./clock.ts";
import { type Answer, answerTo, type Manner } from "./plan.ts";

export type Known = { seed: number; endpoints: { secret: string; manner: Manner }[] };
export type Arrival = {
  endpoint: number;
  eventId: string;
  /** When the last byte was read, by the machine's clock. */
  at: number;
  /** `200`, `500`, `503`, `reset` or `hang`: only the first accepts the event. */
  answer: string;
  /** The hash of the body. */
  digest: string;
};

/** Receives for all endpoints, accepts only signed requests, and records everything. */
let seed = 0;
let endpoints: { webhook: Webhook; manner: Manner }[] = [];
let arrivals: Arrival[] = [];
let refused: string[] = [];
const timesSeen = new Map<string, number>();
const held = new Map<number, ServerResponse[]>();

const server = createServer((request, response) => {
  receive(request, response).catch((error: unknown) => {
    if (!request.complete) return response.destroy(); // the sender died in the middle: it never arrived
    refused.push(error instanceof Error ? error.message : String(error));
    response.writeHead(400).end();
  });
});
server.keepAliveTimeout = 600_000; // a shorter time closes connections that a client is about to reuse
server.listen(0, "127.0.0.1");
await once(server, "listening");

async function receive(request: IncomingMessage, response: ServerResponse) {
  const endpoint = Number(/^\/hook\/(\d+)$/.exec(request.url ?? "")?.[1]);
  const body = await text(request);
  const at = clock();
  const known = endpoints[endpoint];
  if (!known || request.method !== "POST") throw new Error(`${request.method} ${request.url} is nobody's`);
  known.webhook.verify(body, request.headers as Record<string, string>);
  const event = JSON.parse(body) as { id: string; data: { metadata?: { n?: string } } };
  const eventId = String(request.headers["webhook-id"]);
  if (event.id !== eventId) throw new Error(`the id is ${eventId} in the header and ${event.id} in the body`);

  const key = `${endpoint}/${eventId}`;
  const arrival = timesSeen.get(key) ?? 0;
  timesSeen.set(key, arrival + 1);
  const number = Number(event.data.metadata?.n ?? 0);
  const planned = answerTo({ seed, manner: known.manner, endpoint, event: number, arrival });
  const received = planned.kind === "ok" ? "200" : planned.kind === "status" ? `${planned.status}` : planned.kind;
  arrivals.push({ endpoint, eventId, at, answer: received, digest: hash("sha256", body).slice(0, 16) });
  reply(planned, endpoint, response);
}

function reply(planned: Answer, endpoint: number, response: ServerResponse) {
  if (planned.kind === "reset") return void response.socket?.resetAndDestroy();
  if (planned.kind === "hang") return void held.set(endpoint, [...(held.get(endpoint) ?? []), response]);
  if (planned.kind === "ok") {
    if (planned.afterMs === 0) return void response.end("ok");
    return void setTimeout(() => response.end("ok"), planned.afterMs);
  }
  response.writeHead(planned.status, planned.status === 503 ? { "retry-after": "2" } : {}).end("not now");
}

serve(
  {
    port: () => (server.address() as AddressInfo).port,
    know: (known: Known) => {
      seed = known.seed;
      endpoints = known.endpoints.map(({ secret, manner }) => ({ webhook: new Webhook(secret), manner }));
    },
    /** From now on. Hanging requests get a response if the endpoint is healthy again. */
    turn: ({ endpoint, manner }: { endpoint: number; manner: Manner }) => {
      endpoints[endpoint]!.manner = manner;
      if (manner === "stuck") return;
      for (const response of held.get(endpoint) ?? []) response.end("ok");
      held.delete(endpoint);
    },
    count: () => arrivals.length,
    arrivals: () => ({ arrivals, refused }),
    forget: () => {
      arrivals = [];
      refused = [];
      timesSeen.clear();
    },
  },
  async () => server.closeAllConnections(),
);
