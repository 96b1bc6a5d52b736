import { createHmac } from "node:crypto";
import { stream } from "./random.ts";
import type { WebhookEvent } from "./requests.ts";
import { after, type Call, type Webhook, type World } from "./state.ts";
import { callView } from "./views.ts";

const RETRIES = 10;
const FIRST_RETRY_SECONDS = 30;
/** A failing receiver is not called more often than this, whatever the speed. */
const RETRY_FLOOR_MS = 20;
const UNHEALTHY_AFTER = 5;
const FAILURES_KEPT = 10;

interface Delivery {
  url: string;
  secrets: string[];
  call: Call;
  event: WebhookEvent;
  /** A callback of a single call belongs to no webhook, so it changes no webhook's health. */
  webhook: Webhook | undefined;
}

interface Lane {
  tail: Promise<void>;
  waiting: number;
}

/** First attempts for one call to one URL are sequential, so that their order is guaranteed. */
const lanes = new WeakMap<World, Map<string, Lane>>();
const held = new WeakMap<World, Map<string, Delivery[]>>();

/** Sends this event to every subscriber. Returns before anything is sent. */
export function announce(world: World, call: Call, event: WebhookEvent): void {
  const deliveries = [...accountDeliveries(world, call, event), ...callbackDeliveries(call, event)];
  const { webhooks } = world.faults;
  if (webhooks.lose.includes(event)) {
    world.counts.webhooks.lost += deliveries.length;
    return;
  }
  const copies = deliveries.flatMap((delivery) => Array<Delivery>(webhooks.duplicate + 1).fill(delivery));
  if (!webhooks.reorder) {
    sendLater(world, call.id, copies);
    return;
  }
  const holding = mapOf(held, world);
  holding.set(call.id, [...(holding.get(call.id) ?? []), ...copies]);
  if (event === "call.billed") releaseHeld(world, call.id);
}

/** Sends the events that are held back for a call, in the requested order. */
function releaseHeld(world: World, callId: string): void {
  const deliveries = mapOf(held, world).get(callId) ?? [];
  mapOf(held, world).delete(callId);
  const shuffled = world.faults.webhooks.reorder === "shuffle";
  const ordered = shuffled ? stream(world.seed, "order", callId).shuffle(deliveries) : deliveries.toReversed();
  sendLater(world, callId, ordered);
}

/** Events that are held back are sent when the faults change. */
export function releaseAllHeld(world: World): void {
  for (const callId of [...mapOf(held, world).keys()]) releaseHeld(world, callId);
}

/** A reset removes held events together with their calls. */
export function dropHeld(world: World): void {
  mapOf(held, world).clear();
}

function accountDeliveries(world: World, call: Call, event: WebhookEvent): Delivery[] {
  return webhooksFor(world, call)
    .filter((webhook) => webhook.events.includes(event))
    .map((webhook) => ({ url: webhook.url, secrets: webhook.secrets, call, event, webhook }));
}

function webhooksFor(world: World, call: Call): Webhook[] {
  return [...world.webhooks.values()].filter(
    (webhook) =>
      webhook.account === call.account && (webhook.agentId === null || webhook.agentId === call.agent?.agentId),
  );
}

function callbackDeliveries(call: Call, event: WebhookEvent): Delivery[] {
  if (event === "call.started") return [];
  const name = event.slice("call.".length) as "joined" | "ended" | "billed";
  const callback = call.request.callbacks?.[name];
  if (!callback) return [];
  return [{ url: callback.url, secrets: callback.secrets ?? [], call, event, webhook: undefined }];
}

function sendLater(world: World, callId: string, deliveries: Delivery[]): void {
  after(world, world.faults.webhooks.delaySeconds, () => {
    for (const delivery of deliveries) inLane(world, `${callId} ${delivery.url}`, () => attempt(world, delivery, 0));
  });
}

function inLane(world: World, name: string, work: () => Promise<void>): void {
  const open = mapOf(lanes, world);
  const lane = open.get(name) ?? { tail: Promise.resolve(), waiting: 0 };
  open.set(name, lane);
  lane.waiting += 1;
  lane.tail = lane.tail.then(work).then(() => {
    lane.waiting -= 1;
    if (lane.waiting === 0) open.delete(name);
  });
}

async function attempt(world: World, delivery: Delivery, retries: number): Promise<void> {
  const { counts, stopped } = world;
  if (stopped.signal.aborted) return;
  counts.webhooks.sent += 1;
  const failure = await post(world, delivery, new Date().toISOString());
  if (stopped.signal.aborted) return;
  if (delivery.webhook) recordHealth(delivery.webhook, failure);
  if (failure === undefined) {
    counts.webhooks.acked += 1;
    return;
  }
  counts.webhooks.failed += 1;
  if (retries === RETRIES) counts.webhooks.abandoned += 1;
  else {
    const wait = FIRST_RETRY_SECONDS * 2 ** retries;
    after(world, wait, () => void attempt(world, delivery, retries + 1), RETRY_FLOOR_MS);
  }
}

/** The failure, or undefined for a 2xx response. */
async function post(
  world: World,
  { url, secrets, call, event }: Delivery,
  timestamp: string,
): Promise<string | undefined> {
  // Rendered for each attempt from the call as it was at the event: a receiver that is down costs no memory.
  const body = JSON.stringify({ event, call: callView(call, event) });
  try {
    const response = await fetch(url, {
      method: "POST",
      redirect: "manual",
      headers: {
        "Content-Type": "application/json",
        "X-Ultravox-Webhook-Timestamp": timestamp,
        "X-Ultravox-Webhook-Signature": sign(secrets, body, timestamp),
      },
      body,
      signal: AbortSignal.any([world.stopped.signal, AbortSignal.timeout(world.webhookTimeoutMs)]),
    });
    await response.body?.cancel();
    return response.ok ? undefined : `HTTP ${response.status}`;
  } catch (error) {
    // An error of fetch counts as the receiver's failure, and changes the webhook's health.
    return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  }
}

function sign(secrets: string[], body: string, timestamp: string): string {
  return secrets
    .map((secret) => createHmac("sha256", secret).update(body, "utf8").update(timestamp, "utf8").digest("hex"))
    .join(",");
}

function recordHealth(webhook: Webhook, failure: string | undefined): void {
  webhook.failedInARow = failure === undefined ? 0 : webhook.failedInARow + 1;
  if (failure !== undefined) {
    webhook.failures.unshift({ timestamp: new Date().toISOString(), failure });
    webhook.failures.length = Math.min(webhook.failures.length, FAILURES_KEPT);
  }
  const status = webhook.failedInARow >= UNHEALTHY_AFTER ? "unhealthy" : "normal";
  // It stays unhealthy until a delivery succeeds, which also resets the count.
  if (status === webhook.status) return;
  webhook.status = status;
  webhook.lastStatusChange = Date.now();
}

/** One attempt each, now, with the result: for tests of a receiver's check of timestamp and signature. */
export async function resend(
  world: World,
  call: Call,
  event: WebhookEvent,
  options: { timestampOffsetSeconds: number; times: number; secret?: string | undefined },
): Promise<{ url: string; failure: string | null }[]> {
  const results: { url: string; failure: string | null }[] = [];
  for (let sent = 0; sent < options.times; sent++) {
    for (const delivery of [...accountDeliveries(world, call, event), ...callbackDeliveries(call, event)]) {
      const timestamp = new Date(Date.now() + options.timestampOffsetSeconds * 1000).toISOString();
      const secrets = options.secret === undefined ? delivery.secrets : [options.secret];
      world.counts.webhooks.sent += 1;
      const failure = await post(world, { ...delivery, secrets }, timestamp);
      world.counts.webhooks[failure === undefined ? "acked" : "failed"] += 1;
      results.push({ url: delivery.url, failure: failure ?? null });
    }
  }
  return results;
}

function mapOf<Value>(maps: WeakMap<World, Map<string, Value>>, world: World): Map<string, Value> {
  const map = maps.get(world) ?? new Map<string, Value>();
  maps.set(world, map);
  return map;
}
