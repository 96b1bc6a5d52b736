import { z } from "zod";
import { WebhookEvent } from "./requests.ts";

const times = z.int().min(0).max(1_000_000);
const error = z.strictObject({
  status: z.int().min(400).max(599),
  times: times.default(1),
  retryAfterSeconds: z.number().min(0).optional(),
});

/** This number of requests is processed immediately and answered `slowMs` later. */
const slowness = { slow: times.default(0), slowMs: z.int().min(0).max(60_000).default(1000) };

/** The body of `PUT /_sim/faults`. It replaces all earlier faults. */
export const FaultPlan = z.strictObject({
  webhooks: z
    .strictObject({
      duplicate: times.max(100).default(0),
      reorder: z.union([z.boolean(), z.enum(["reverse", "shuffle"])]).default(false),
      delaySeconds: z.number().min(0).default(0),
      lose: z.array(WebhookEvent).default([]),
    })
    .prefault({}),
  create: z
    .strictObject({
      timeoutAfterAccepting: times.default(0),
      hangBeforeAccepting: times.default(0),
      resetAfterAccepting: times.default(0),
      holdMs: z.int().min(0).max(600_000).default(30_000),
      ...slowness,
      errors: z.array(error.extend({ afterAccepting: z.boolean().default(false) })).default([]),
    })
    .prefault({}),
  reads: z.strictObject({ errors: z.array(error).default([]) }).prefault({}),
  changes: z
    .strictObject({
      resetAfterAccepting: times.default(0),
      errors: z.array(error.extend({ afterAccepting: z.boolean().default(false) })).default([]),
      ...slowness,
    })
    .prefault({}),
  recordings: z.enum(["inline", "redirect"]).optional(),
  recording: z
    .strictObject({
      /** This number of requests is answered with 425, whatever the time. */
      notReady: times.default(0),
      /** This number of requests is answered with 404. */
      missing: times.default(0),
      /** This number of downloads stops in the middle of the file and breaks off after `holdMs`, as a lost connection does. */
      cut: times.default(0),
      holdMs: z.int().min(0).max(600_000).default(0),
      /** The length of the recording; one second is 16 kB. */
      seconds: z.int().min(1).max(3600).default(1),
    })
    .prefault({}),
  applyTo: z.enum(["calls", "agents", "voices", "tools", "corpora", "telephony", "all"]).default("calls"),
});
export type FaultPlan = z.input<typeof FaultPlan>;
export type Faults = z.output<typeof FaultPlan>;

export type Kind = "create" | "read" | "change";
export type Resource = "calls" | "agents" | "voices" | "tools" | "corpora" | "telephony" | "other";
export type Fault =
  | { act: "error"; status: number; retryAfterSeconds?: number | undefined }
  | { act: "hang"; holdMs: number }
  | { act: "reset" };

export const noFaults = (): Faults => FaultPlan.parse({});

/** The fault that applies before the request is processed. Each is used up when it applies. */
export function faultBefore(faults: Faults, kind: Kind, resource: Resource): Fault | undefined {
  if (!applies(faults, resource)) return undefined;
  if (kind === "read") return nextError(faults.reads.errors);
  if (kind === "change") return nextError(faults.changes.errors.filter((each) => !each.afterAccepting));
  if (spend(faults.create, "hangBeforeAccepting")) return { act: "hang", holdMs: faults.create.holdMs };
  return nextError(faults.create.errors.filter((each) => !each.afterAccepting));
}

/** The fault that applies after the work is done: the caller cannot see that it was done. */
export function faultAfter(faults: Faults, kind: Kind, resource: Resource): Fault | undefined {
  if (!applies(faults, resource) || kind === "read") return undefined;
  if (kind === "change") {
    if (spend(faults.changes, "resetAfterAccepting")) return { act: "reset" };
    return nextError(faults.changes.errors.filter((each) => each.afterAccepting));
  }
  if (spend(faults.create, "timeoutAfterAccepting")) return { act: "hang", holdMs: faults.create.holdMs };
  if (spend(faults.create, "resetAfterAccepting")) return { act: "reset" };
  return nextError(faults.create.errors.filter((each) => each.afterAccepting));
}

/** Milliseconds (real time) by which the response is late. */
export function delayOf(faults: Faults, kind: Kind | undefined, resource: Resource): number {
  const plan = kind === "change" ? faults.changes : kind === "create" ? faults.create : null;
  if (!plan || !applies(faults, resource) || plan.slow < 1) return 0;
  plan.slow -= 1;
  return plan.slowMs / 1000;
}

function applies({ applyTo }: Faults, resource: Resource): boolean {
  return applyTo === "all" || applyTo === resource;
}

type Spendable = "hangBeforeAccepting" | "timeoutAfterAccepting" | "resetAfterAccepting";

function spend<Name extends Spendable>(plan: Record<Name, number>, which: Name): boolean {
  if (plan[which] === 0) return false;
  plan[which] -= 1;
  return true;
}

function nextError(errors: z.output<typeof error>[]): Fault | undefined {
  const next = errors.find((each) => each.times > 0);
  if (!next) return undefined;
  next.times -= 1;
  return { act: "error", status: next.status, retryAfterSeconds: next.retryAfterSeconds };
}
