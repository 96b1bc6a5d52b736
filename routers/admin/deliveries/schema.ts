import { z } from "zod";
import { idPattern } from "../../../db/ids.ts";
import { Client } from "../../clients/schema.ts";
import { examples, Id, Timestamp } from "../../core/fields.ts";
import { PageInput, pageOf } from "../../core/pagination.ts";

const clientId = Id("client", examples.client);
const endpointId = Id("endpoint", examples.endpoint);

const seconds = z.int().min(0);
const number = z.int().min(0);
const capped = z.boolean().meta({
  description: "There are more than were counted: the numbers are the least that it can be.",
  examples: [false],
});
const OldestDue = seconds.meta({
  description: "For how long the oldest one that is due has been waiting; 0 when nothing is due.",
  examples: [4],
});
const pending = number.meta({ description: "Not delivered and not given up.", examples: [12] });
const due = number.meta({ description: "Of these, those whose time has come.", examples: [3] });

/** Why a delivery has not been made yet. */
const causes = ["waiting", "paused", "inFlight", "suspended"] as const;
export type Cause = (typeof causes)[number];

const Backlog = z.object({ pending, due, oldestDueSeconds: OldestDue, capped }).meta({ id: "DispatchBacklog" });
const Attempts = z
  .object({
    attempts: number.meta({ examples: [3021] }),
    failures: number.meta({ description: "No answer, or another one than 2xx.", examples: [18] }),
    capped,
  })
  .meta({ id: "DispatchAttempts" });

export const DispatchOverview = z
  .object({
    oldestDueSeconds: OldestDue.meta({
      description:
        "Of all deliveries that are due, whatever holds them up: places, a rate, a pause. Those of suspended clients are left out.",
      examples: [4],
    }),
    waiting: Backlog.meta({ description: "Not admitted yet: for want of a place, or by its endpoint's rate." }),
    paused: Backlog.meta({ description: "Held back by a pause." }),
    inFlight: Backlog.meta({ description: "In the queue, or at work." }),
    suspended: Backlog.meta({ description: "Not admitted, and its client is suspended." }),
    oldest: z
      .array(
        z.object({
          clientId,
          endpointId,
          cause: z.enum(causes).meta({ examples: ["waiting"] }),
          oldestDueSeconds: OldestDue,
        }),
      )
      .meta({ description: "The ten endpoints whose deliveries have waited longest." }),
    lastFiveMinutes: Attempts,
    lastHour: Attempts,
    dead: z
      .object({ last24Hours: number.meta({ examples: [2] }), capped })
      .meta({ description: "Given up, after the last attempt or because nothing can be sent there." }),
    endpointsDisabledLast7Days: number.meta({
      description: "Switched off by us, since they failed or were gone, and still off.",
      examples: [1],
    }),
    pauses: number.meta({ description: "In force.", examples: [0] }),
    queueLagSeconds: seconds.meta({
      description: "How long the oldest job of any kind has been due. Deliveries in flight stand in the same line.",
      examples: [0],
    }),
  })
  .meta({ id: "DispatchOverview" });
export type DispatchOverview = z.output<typeof DispatchOverview>;

export const ListDispatchClients = z.strictObject({
  ...PageInput,
  failing: z
    .boolean()
    .optional()
    .meta({ description: "true: those with an endpoint that fails at present; false: the others.", examples: [true] }),
  windowMinutes: z
    .int()
    .min(5)
    .max(1440)
    .default(60)
    .meta({ description: "How far back attempts, failures and dead are counted.", examples: [60] }),
});
export type ListDispatchClients = z.output<typeof ListDispatchClients>;

export const DispatchClient = z
  .object({
    clientId,
    name: Client.shape.name,
    status: Client.shape.status,
    pending,
    due,
    inFlight: number.meta({ examples: [2] }),
    oldestDueSeconds: OldestDue,
    attempts: number.meta({ description: "In the window.", examples: [310] }),
    failures: number.meta({ description: "In the window.", examples: [4] }),
    dead: number.meta({ description: "Given up in the window.", examples: [0] }),
    capped,
    endpoints: z.object({
      enabled: number.meta({ examples: [3] }),
      failing: number.meta({ description: "Of the enabled, those whose last attempt failed.", examples: [1] }),
      disabled: number.meta({ examples: [0] }),
    }),
  })
  .meta({ id: "DispatchClient" });
export type DispatchClient = z.output<typeof DispatchClient>;
export const DispatchClientPage = pageOf(DispatchClient);

export const ListDispatchEndpoints = z.strictObject({
  ...PageInput,
  clientId: clientId.optional().meta({ description: "Those of this client." }),
  health: z
    .enum(["failing", "disabled", "paused"])
    .optional()
    .meta({ description: "`failing`: enabled, and the last attempt failed.", examples: ["failing"] }),
});
export type ListDispatchEndpoints = z.output<typeof ListDispatchEndpoints>;

export const DispatchEndpoint = z
  .object({
    id: endpointId,
    clientId,
    host: z.string().meta({ description: "Of its URL; the rest may hold secrets.", examples: ["hooks.example.com"] }),
    status: z.enum(["enabled", "disabled"]).meta({ examples: ["enabled"] }),
    disabledReason: z
      .string()
      .nullable()
      .meta({ examples: ["The receiver answered 410 Gone."] }),
    disabledAt: Timestamp.nullable(),
    paused: z.boolean().meta({ description: "By a pause of its own, its client's, or of all.", examples: [false] }),
    consecutiveFailures: number.meta({ examples: [7] }),
    failingSince: Timestamp.nullable(),
    lastSuccessAt: Timestamp.nullable().meta({ description: "To the minute." }),
    pending,
    due,
    inFlight: number.meta({ examples: [1] }),
    oldestDueSeconds: OldestDue,
    capped,
    ratePerSecond: z
      .int()
      .nullable()
      .meta({ description: "Attempts begun in a second at most; null: no such limit.", examples: [50] }),
  })
  .meta({ id: "DispatchEndpoint" });
export type DispatchEndpoint = z.output<typeof DispatchEndpoint>;
export const DispatchEndpointPage = pageOf(DispatchEndpoint);

const anyScope = new RegExp(`^all$|${idPattern("client").source}|${idPattern("endpoint").source}`);
const PauseScope = z
  .string()
  .regex(anyScope, "This is `all`, the id of a client, or the id of a webhook endpoint.")
  .meta({ description: "`all`, the id of a client, or the id of an endpoint.", examples: [examples.endpoint, "all"] });

export const PauseAt = z.strictObject({ scope: PauseScope });
export const SetPause = z.strictObject({
  scope: PauseScope,
  reason: z
    .string()
    .trim()
    .min(1)
    .max(500)
    .meta({ description: "For the other operators.", examples: ["The receiver is being moved."] }),
});
export type SetPause = z.output<typeof SetPause>;
export const ListPauses = z.strictObject(PageInput);
export type ListPauses = z.output<typeof ListPauses>;

export const Pause = z
  .object({
    scope: PauseScope,
    reason: SetPause.shape.reason,
    pausedBy: z.string().meta({ description: "Who paused it first.", examples: [examples.user] }),
    pausedAt: Timestamp,
    inFlight: number.meta({ description: "What was admitted before, and still ends. 0: drained.", examples: [0] }),
  })
  .meta({ id: "DispatchPause" });
export type Pause = z.output<typeof Pause>;
export const PausePage = pageOf(Pause);
