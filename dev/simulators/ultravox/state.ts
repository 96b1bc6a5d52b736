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
  /** Limit of calls that have not ended; null or absent: no limit. */
  concurrency?: number | null;
  /** Creates per second; absent: no limit. */
  createPerSecond?: number;
  /** Cloned voices; null or absent: no limit. */
  voices?: number | null;
  /** Real seconds between the creation of a clone and the response; absent: none. */
  cloneSeconds?: number;
  /** Knowledge bases; null or absent: no limit. */
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
  /** The template has no contextSchema: it is derived from the template's variables. */
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
  /** The call state that tools have built up, where this message changed it. */
  state?: Record<string, unknown>;
}

/** Times are simulated seconds since `created`, which is real time. */
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
  /** 0: no response was sent. */
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
  /** Simulated seconds per real second. */
  speed: number;
  webhookTimeoutMs: number;
  /** Signs the carrier's reports about legs; null: no reports. */
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
  /** Never decreases, not even at a reset: an id is never used twice. */
  ordinals: Record<string, number>;
  /** The other resources, by kind and id. See `shelf`. */
  shelves: Map<string, Map<string, Thing>>;
  /** Aborted when the simulator closes, and replaced at a reset: pending timers are cancelled. */
  stopped: AbortController;
}

/** The fields that every resource of an account has. */
export interface Thing {
  id: string;
  ordinal: number;
  account: string;
}

/** The resources of one kind. They are persisted as agents are, and removed at a reset. */
export function shelf<T extends Thing>(world: World, resource: string): Map<string, T> {
  const found = world.shelves.get(resource) ?? new Map<string, Thing>();
  world.shelves.set(resource, found);
  return found as Map<string, T>; // each kind is written by one file only
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

/** Runs after the given simulated seconds. Never keeps the process alive. */
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

/** Restores the initial state, except for the ids, which continue. */
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

/** A timestamp in the call's time, which runs `speed` times as fast as real time. */
export function instant(call: Call, seconds: number): string {
  return new Date(call.created + Math.round(seconds * 1000)).toISOString();
}

export function elapsed(world: World, call: Call): number {
  return ((Date.now() - call.created) / 1000) * world.speed;
}
