import { createHmac } from "node:crypto";
import { newId } from "../../db/ids.ts";
import { callControl, type TelnyxAccount, telnyxHeaders } from "../../dev/simulators/telnyx.ts";
import { given, serve } from "./child.ts";
import { sendAtPace, spreadOf } from "./connections.ts";

export type Sending = { port: number; perSecond: number; seconds: number; calls: { id: string; upstream: string }[] };
export type Sent = {
  /** Response counts by provider and status. */
  answers: Record<string, number>;
  /** The keys of acknowledged messages, by provider. Each must be stored once. */
  acknowledged: Record<string, string[]>;
  p50Ms: number;
  p95Ms: number;
  p99Ms: number;
  slowestMs: number;
};

type Message = { provider: "ultravox" | "stripe" | "telnyx"; key: string; text: string };

const connections = 64;
/** One of this many is sent twice. */
const repeats = 10;

/** Sends at a constant rate, independent of the responses. A latency counts from the due time. */
async function run({ port, perSecond, seconds, calls }: Sending): Promise<Sent> {
  const count = perSecond * seconds;
  const made = Array.from({ length: count }, (_, index) => messageOf(index, calls));
  const messages = made.map((message, index) => (index % repeats === repeats - 1 ? made[index - 1]! : message));
  const responses: Record<string, number> = {};
  const acknowledged = { ultravox: new Set<string>(), stripe: new Set<string>(), telnyx: new Set<string>() };
  const latencies: number[] = [];
  const sending = {
    ...{ port, connections, request: (n: number) => messages[n]!.text },
    seen(n: number, { head, ms }: { head: string; ms: number }) {
      const { provider, key } = messages[n]!;
      latencies.push(ms);
      const status = head.slice(9, 12);
      const name = `${provider} ${status}`;
      responses[name] = (responses[name] ?? 0) + 1;
      if (status.startsWith("2")) acknowledged[provider].add(key);
    },
  };
  await sendAtPace(sending, { perSecond, count });
  const keys = Object.entries(acknowledged).map(([name, known]) => [name, [...known]]);
  return { answers: responses, acknowledged: Object.fromEntries(keys), ...spreadOf(latencies) };
}

const telnyx = JSON.parse(given("TELNYX_ACCOUNT")) as { privateKey: object };
const account = { privateKey: telnyx.privateKey } as unknown as TelnyxAccount;
const [stripeSecret, ultravoxSecret] = [given("STRIPE_SECRET"), given("ULTRAVOX_SECRET")];

function messageOf(index: number, calls: Sending["calls"]): Message {
  if (index % 3 === 0) return ofUltravox(Math.floor(index / 3), calls);
  if (index % 3 === 1) return ofStripe();
  return ofTelnyx(Math.floor(index / 3), calls);
}

const steps = ["call.started", "call.joined", "call.ended", "call.billed"] as const;
/** Concurrent calls: all of them start, then all are joined, then all end, then all are billed. */
const wave = 100;

function ofUltravox(n: number, calls: Sending["calls"]): Message {
  const ofWave = n % (wave * steps.length);
  const place = Math.floor(n / (wave * steps.length)) * wave + (ofWave % wave);
  const { id, upstream } = calls[place % calls.length]!;
  const step = Math.floor(ofWave / wave);
  const event = steps[step]!;
  const [isEnded, isBilled] = [step >= 2, step >= 3];
  const now = new Date().toISOString();
  const call = {
    callId: upstream,
    created: now,
    joined: event === "call.started" ? null : now,
    ended: isEnded ? now : null,
    endReason: isEnded ? "hangup" : null,
    billingStatus: isBilled ? "BILLING_STATUS_BILLED" : "BILLING_STATUS_PENDING",
    billedDuration: isBilled ? "6s" : null,
    metadata: { callId: id },
    systemPrompt: "You answer for a bakery. ".repeat(20),
  };
  const body = JSON.stringify({ event, call });
  const headers = {
    "content-type": "application/json",
    "x-ultravox-webhook-timestamp": now,
    "x-ultravox-webhook-signature": createHmac("sha256", ultravoxSecret).update(body).update(now).digest("hex"),
  };
  const bill = isBilled ? ":final:6:null" : "";
  return { provider: "ultravox", key: `${event}:${upstream}${bill}`, text: request("ultravox", headers, body) };
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

serve({ run });
