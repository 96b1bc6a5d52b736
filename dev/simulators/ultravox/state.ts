import type { TelnyxAccount } from "../telnyx.ts";
import { type Faults, noFaults } from "./faults.ts";
import type { Behaviour, EndReason } from "./numbers.ts";
import { type Random, stream } from "./random.ts";
import { type CallRequest, type CallTemplate, type MediumInput, WebhookEvent } from "./requests.ts";

export const MAX_CALLS = 50_000;
export const MAX_REQUESTS = 500;

export interface Account {
  id: string;
  apiKey: string;
  webhooks: { url: string; secrets: string[]; events?: WebhookEvent[] }[];
  /** Calls created and not ended; null or absent: no cap. */
  concurrency?: number | null;
  /** Creates within any second; absent: as many as come. */
  createPerSecond?: number;
  /** Cloned voices; null or absent: no cap. */
  voices?: number | null;
  /** Real seconds between the making of a clone and its answer; absent: none. */
  cloneSeconds?: number;
  /** Knowledge bases; null or absent: no cap. */
  corpora?: number | null;
}

export interface Agent {
  id: string;
  ordinal: number;
  account: string;
  name: string;
  created: number;
  revision: string;
  callTemplate: CallTemplate;
  /** The template came without a contextSchema: ours follows the variables it names. */
  derivedSchema: boolean;
  calls: number;
}

export interface Line {
  role: "USER" | "AGENT" | "TOOL_CALL" | "TOOL_RESULT";
  text: string;
  /** Simulated seconds since the call was joined. */
  start: number;
  end: number;
  medium: "VOICE" | "TEXT";
  tool?: { name: string; invocationId: string };
  /** What the tools have built up, where this changed it. */
  state?: Record<string, unknown>;
}

/** Instants are simulated seconds since `created`, which is the wall clock's. */
export interface Call {
  id: string;
  ordinal: number;
  account: string;
  agent: { agentId: string; name: string } | null;
  created: number;
  request: CallRequest;
  medium: MediumInput;
  behaviour: Behaviour;
  ringSeconds: number;
  talkSeconds: number;
  stageId: string;
  lines: Line[];
  joinedAt: number | null;
  endedAt: number | null;
  endReason: EndReason | null;
  billed: boolean;
  joinHost: string;
  timer?: NodeJS.Timeout;
}

export interface Webhook {
  id: string;
  ordinal: number;
  account: string;
  agentId: string | null;
  created: number;
  url: string;
  secrets: string[];
  events: WebhookEvent[];
  status: "normal" | "unhealthy";
  lastStatusChange: number | null;
  failures: { timestamp: string; failure: string }[];
  failedInARow: number;
}

export interface LoggedRequest {
  at: string;
  account: string | null;
  method: string;
  path: string;
  template: string | null;
  query: Record<string, string[]>;
  body: unknown;
  /** 0: no answer was sent. */
  status: number;
  response: unknown;
}

export interface Counts {
  requests: Map<string, number>;
  accepted: Map<string, number>;
  acceptedByCallId: Map<string, number>;
  webhooks: { sent: number; acked: number; failed: number; lost: number; abandoned: number };
}

export interface World {
  seed: number;
  /** Simulated seconds in a second of the clock on the wall. */
  speed: number;
  webhookTimeoutMs: number;
  /** Signs what the carrier reports of its legs; null: it reports nothing. */
  telnyx: TelnyxAccount | null;
  accounts: Account[];
  agents: Map<string, Agent>;
  calls: Map<string, Call>;
  webhooks: Map<string, Webhook>;
  active: Map<string, number>;
  recentCreates: Map<string, number[]>;
  faults: Faults;
  log: LoggedRequest[];
  counts: Counts;
  /** Never goes back, not even at a reset: an id that was used once does not come again. */
  ordinals: Record<string, number>;
  /** What the other nouns keep, by noun and id; see `shelf`. */
  shelves: Map<string, Map<string, Thing>>;
  /** Aborted when the simulator closes, and replaced at a reset: whatever was still to come then does not. */
  stopped: AbortController;
}

/** What every thing of an account has. */
export interface Thing {
  id: string;
  ordinal: number;
  account: string;
}

/** The things of one noun. They outlive the simulator where agents do, and go at a reset. */
export function shelf<T extends Thing>(world: World, noun: string): Map<string, T> {
  const found = world.shelves.get(noun) ?? new Map<string, Thing>();
  world.shelves.set(noun, found);
  return found as Map<string, T>; // one noun's file alone puts things on its shelf
}

function newCounts(): Counts {
  return {
    requests: new Map(),
    accepted: new Map(),
    acceptedByCallId: new Map(),
    webhooks: { sent: 0, acked: 0, failed: 0, lost: 0, abandoned: 0 },
  };
}

export function nextThing(world: World, kind: string): { ordinal: number; random: Random } {
  const ordinal = world.ordinals[kind] ?? 0;
  world.ordinals[kind] = ordinal + 1;
  return { ordinal, random: stream(world.seed, kind, ordinal) };
}

/** Runs after so many simulated seconds, and never keeps the process alive. */
export function after(world: World, seconds: number, run: () => void, floorMs = 0): NodeJS.Timeout {
  const delay = Math.min(Math.max((seconds * 1000) / world.speed, floorMs), 2 ** 31 - 1);
  const { signal } = world.stopped;
  return setTimeout(() => {
    if (!signal.aborted) run();
  }, delay).unref();
}

export function newWorld(options: {
  seed: number;
  speed: number;
  webhookTimeoutMs: number;
  telnyx: TelnyxAccount | null;
  accounts: Account[];
}): World {
  const world: World = {
    ...options,
    agents: new Map(),
    calls: new Map(),
    webhooks: new Map(),
    active: new Map(),
    recentCreates: new Map(),
    faults: noFaults(),
    log: [],
    counts: newCounts(),
    ordinals: {},
    shelves: new Map(),
    stopped: new AbortController(),
  };
  addConfiguredWebhooks(world);
  return world;
}

/** As it was at the start, but for the ids, which go on. */
export function resetWorld(world: World): void {
  world.stopped.abort();
  world.stopped = new AbortController();
  world.shelves.clear();
  for (const map of [world.agents, world.calls, world.webhooks, world.active, world.recentCreates]) map.clear();
  world.faults = noFaults();
  world.log = [];
  world.counts = newCounts();
  addConfiguredWebhooks(world);
}

function addConfiguredWebhooks(world: World): void {
  for (const account of world.accounts) {
    for (const { url, secrets, events } of account.webhooks) {
      addWebhook(world, account.id, { url, secrets, events: events ?? [...WebhookEvent.options], agentId: null });
    }
  }
}

type WebhookInput = Pick<Webhook, "url" | "secrets" | "events" | "agentId">;

export function addWebhook(world: World, account: string, input: WebhookInput): Webhook {
  const { ordinal, random } = nextThing(world, "webhook");
  const webhook: Webhook = {
    ...input,
    id: random.uuid(),
    ordinal,
    account,
    created: Date.now(),
    status: "normal",
    lastStatusChange: null,
    failures: [],
    failedInARow: 0,
  };
  world.webhooks.set(webhook.id, webhook);
  return webhook;
}

export function increment(counts: Map<string, number>, key: string): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
  const oldest = counts.size > MAX_CALLS ? counts.keys().next().value : undefined;
  if (oldest !== undefined) counts.delete(oldest);
}

/** A timestamp of the call's own time, which runs `speed` times as fast as the clock on the wall. */
export function instant(call: Call, seconds: number): string {
  return new Date(call.created + Math.round(seconds * 1000)).toISOString();
}

export function elapsed(world: World, call: Call): number {
  return ((Date.now() - call.created) / 1000) * world.speed;
}
