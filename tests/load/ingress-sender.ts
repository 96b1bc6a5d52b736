import { createHmac } from "node:crypto";
import { connect, type Socket } from "node:net";
import { performance } from "node:perf_hooks";
import { newId } from "../../db/ids.ts";
import { callControl, type TelnyxAccount, telnyxHeaders } from "../../dev/simulators/telnyx.ts";
import { answer, given } from "./child.ts";
import { framesOf } from "./http-frames.ts";

export type Sending = { port: number; perSecond: number; seconds: number; calls: { id: string; upstream: string }[] };
export type Sent = {
  /** Answers by provider and status. */
  answers: Record<string, number>;
  /** The keys of what was acknowledged, by provider: each must be there once. */
  acknowledged: Record<string, string[]>;
  p50Ms: number;
  p95Ms: number;
  p99Ms: number;
  slowestMs: number;
};

type Message = { provider: "ultravox" | "stripe" | "telnyx"; key: string; text: string };

const connections = 64;
/** Of every so many, one is sent twice over. */
const repeats = 10;

/**
 * Sends at a steady rate, whatever the answers do: what waits for a free connection has been waiting since the moment
 * when it should have been sent.
 */
async function run({ port, perSecond, seconds, calls }: Sending): Promise<Sent> {
  const count = perSecond * seconds;
  const made = Array.from({ length: count }, (_, index) => messageOf(index, calls));
  const messages = made.map((message, index) => (index % repeats === repeats - 1 ? made[index - 1]! : message));
  const answers: Record<string, number> = {};
  const acknowledged = { ultravox: new Set<string>(), stripe: new Set<string>(), telnyx: new Set<string>() };
  const latencies: number[] = [];
  const waiting: { message: Message; dueAt: number }[] = [];
  const free: ((next: { message: Message; dueAt: number }) => void)[] = [];
  const sockets: Socket[] = [];

  const line = () =>
    new Promise<void>((opened, failed) => {
      const socket = connect({ host: "127.0.0.1", port });
      sockets.push(socket);
      socket.setNoDelay(true);
      let under: { message: Message; dueAt: number } | undefined;
      const take = (next: { message: Message; dueAt: number }) => {
        under = next;
        socket.write(next.message.text);
      };
      const read = framesOf((head) => {
        const { message, dueAt } = under!;
        latencies.push(performance.now() - dueAt);
        const status = head.slice(9, 12);
        const name = `${message.provider} ${status}`;
        answers[name] = (answers[name] ?? 0) + 1;
        if (status.startsWith("2")) acknowledged[message.provider].add(message.key);
        const next = waiting.shift();
        if (next) take(next);
        else free.push(take);
      });
      socket.once("connect", () => {
        free.push(take);
        opened();
      });
      socket.on("data", read).on("error", failed);
    });
  await Promise.all(Array.from({ length: connections }, line));

  const began = performance.now();
  const dueAt = (index: number) => began + (index * 1000) / perSecond;
  for (let index = 0; index < count; ) {
    for (; index < count && dueAt(index) <= performance.now(); index++) {
      const next = { message: messages[index]!, dueAt: dueAt(index) };
      const take = free.pop();
      if (take) take(next);
      else waiting.push(next);
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  const end = performance.now() + 60_000;
  while (latencies.length < count && performance.now() < end) await new Promise((resolve) => setTimeout(resolve, 10));
  for (const socket of sockets) socket.destroy();

  latencies.sort((a, b) => a - b);
  const part = (share: number) =>
    latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))] ?? NaN;
  return {
    answers,
    acknowledged: Object.fromEntries(Object.entries(acknowledged).map(([name, keys]) => [name, [...keys]])),
    p50Ms: part(0.5),
    p95Ms: part(0.95),
    p99Ms: part(0.99),
    slowestMs: part(1),
  };
}

const telnyx = JSON.parse(given("TELNYX_ACCOUNT")) as { privateKey: object };
const account = { privateKey: telnyx.privateKey } as unknown as TelnyxAccount;
const [stripeSecret, ultravoxSecret] = [given("STRIPE_SECRET"), given("ULTRAVOX_SECRET")];

function messageOf(index: number, calls: Sending["calls"]): Message {
  const call = calls[Math.floor(index / 3) % calls.length]!;
  if (index % 3 === 0) return ofUltravox(Math.floor(index / 3 / calls.length), call);
  if (index % 3 === 1) return ofStripe();
  return ofTelnyx(Math.floor(index / 3), calls);
}

function ofUltravox(round: number, { id, upstream }: { id: string; upstream: string }): Message {
  const event = ["call.started", "call.joined", "call.ended"][round % 3]!;
  const now = new Date().toISOString();
  const call = {
    callId: upstream,
    created: now,
    joined: null,
    ended: event === "call.ended" ? now : null,
    endReason: event === "call.ended" ? "unjoined" : null,
    billingStatus: "BILLING_STATUS_PENDING",
    billedDuration: null,
    metadata: { callId: id },
    systemPrompt: "You answer for a bakery. ".repeat(20),
  };
  const body = JSON.stringify({ event, call });
  const headers = {
    "content-type": "application/json",
    "x-ultravox-webhook-timestamp": now,
    "x-ultravox-webhook-signature": createHmac("sha256", ultravoxSecret).update(body).update(now).digest("hex"),
  };
  return { provider: "ultravox", key: `${event}:${upstream}`, text: request("ultravox", headers, body) };
}

function ofStripe(): Message {
  const id = newId("event");
  const object = { id: "cs_1", object: "checkout.session", note: "x".repeat(800) };
  const body = JSON.stringify({
    id,
    object: "event",
    type: "checkout.session.completed",
    livemode: true,
    data: { object },
  });
  const at = Math.floor(Date.now() / 1000);
  const signature = createHmac("sha256", stripeSecret).update(`${at}.${body}`).digest("hex");
  const headers = { "content-type": "application/json", "stripe-signature": `t=${at},v1=${signature}` };
  return { provider: "stripe", key: id, text: request("stripe", headers, body) };
}

const types = ["call.initiated", "call.answered", "call.hangup", "call.cost"] as const;

function ofTelnyx(index: number, calls: Sending["calls"]): Message {
  const leg = Math.floor(index / types.length);
  const id = newId("event");
  const message = callControl({
    type: types[index % types.length]!,
    callControlId: `v3:${leg}`,
    callId: calls[leg % calls.length]!.id,
    id,
    more: { hangup_cause: "normal_clearing", total_cost: "0.0050", tags: ["x".repeat(500)] },
  });
  return { provider: "telnyx", key: id, text: request("telnyx", telnyxHeaders(account, message), message.body) };
}

function request(provider: string, headers: Record<string, string>, body: string): string {
  const all = { host: "127.0.0.1", ...headers, "content-length": String(Buffer.byteLength(body)) };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  return `POST /api/v1/webhooks/${provider} HTTP/1.1\r\n${lines.join("")}\r\n${body}`;
}

answer({ run });
