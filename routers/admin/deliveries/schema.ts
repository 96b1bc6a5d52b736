import { z } from "zod";
import { idPattern } from "../../../db/ids.ts";
import { Client } from "../../clients/schema.ts";
import { examples, Id, Timestamp } from "../../core/fields.ts";
import { PageInput, pageOf } from "../../core/pagination.ts";
import { disableCodes } from "../../core/webhook-error-codes.ts";

const clientId = Id("client", examples.client);
const endpointId = Id("endpoint", examples.endpoint);

const seconds = z.int().min(0);
const number = z.int().min(0);
const capped = z.boolean().meta({
  description: "Counting stopped at a limit: the real numbers are at least these.",
  examples: [false],
});
const OldestDue = seconds.meta({
  description: "How long the oldest due delivery has waited; 0 when nothing is due.",
  examples: [4],
});
const pending = number.meta({ description: "Neither delivered nor dead.", examples: [12] });
const due = number.meta({ description: "Pending deliveries whose next attempt is due.", examples: [3] });

/** Why a delivery is pending. */
const causes = ["waiting", "paused", "in_flight", "suspended"] as const;
export type Cause = (typeof causes)[number];

const Backlog = z.object({ pending, due, oldestDueSeconds: OldestDue, capped }).meta({ id: "DeliveryBacklog" });
const Attempts = z
  .object({
    attempts: number.meta({ examples: [3021] }),
    failures: number.meta({ description: "No response, or a response other than 2xx.", examples: [18] }),
    capped,
  })
  .meta({ id: "DeliveryAttempts" });

export const DeliveryOverview = z
  .object({
    oldestDueSeconds: OldestDue.meta({
      description:
        "For all due deliveries, including those that wait for a slot, a rate limit or a pause; without suspended clients.",
      examples: [4],
    }),
    waiting: Backlog.meta({ description: "Waiting for a free slot or for the endpoint's rate limit." }),
    paused: Backlog.meta({ description: "Waiting for the end of a pause." }),
    inFlight: Backlog.meta({ description: "In the queue or being sent." }),
    suspended: Backlog.meta({ description: "Waiting, and the client is suspended." }),
    oldestEndpoints: z
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
      .meta({ description: "Dead: the last attempt failed, or nothing can be sent to the endpoint." }),
    endpointsDisabledLast7Days: number.meta({
      description: "Disabled automatically after failures or a 410, and still disabled.",
      examples: [1],
    }),
    pauses: number.meta({ description: "Active pauses.", examples: [0] }),
    queueLagSeconds: seconds.meta({
      description: "How long the oldest due job of any kind has waited. Deliveries use the same queue.",
      examples: [0],
    }),
  })
  .meta({ id: "DeliveryOverview" });
export type DeliveryOverview = z.output<typeof DeliveryOverview>;

export const ListDeliveryClients = z.strictObject({
  ...PageInput,
  failing: z
    .boolean()
    .optional()
    .meta({ description: "true: clients with an endpoint that is failing now; false: the others.", examples: [true] }),
  windowMinutes: z
    .int()
    .min(5)
    .max(1440)
    .default(60)
    .meta({ description: "The time window for `attempts`, `failures` and `dead`.", examples: [60] }),
});
export type ListDeliveryClients = z.output<typeof ListDeliveryClients>;

export const DeliveryClient = z
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
    dead: number.meta({ description: "Deliveries that became dead in the window.", examples: [0] }),
    capped,
    endpoints: z.object({
      enabled: number.meta({ examples: [3] }),
      failing: number.meta({ description: "Enabled endpoints whose last attempt failed.", examples: [1] }),
      disabled: number.meta({ examples: [0] }),
    }),
  })
  .meta({ id: "DeliveryClient" });
export type DeliveryClient = z.output<typeof DeliveryClient>;
export const DeliveryClientPage = pageOf(DeliveryClient);

export const ListDeliveryEndpoints = z.strictObject({
  ...PageInput,
  clientId: clientId.optional().meta({ description: "Only endpoints of this client." }),
  health: z
    .enum(["failing", "disabled", "paused"])
    .optional()
    .meta({ description: "`failing`: enabled, and the last attempt failed.", examples: ["failing"] }),
});
export type ListDeliveryEndpoints = z.output<typeof ListDeliveryEndpoints>;

export const DeliveryEndpoint = z
  .object({
    id: endpointId,
    clientId,
    host: z.string().meta({
      description: "The host of its URL. The rest is not shown: it may contain secrets.",
      examples: ["hooks.example.com"],
    }),
    status: z.enum(["enabled", "disabled"]).meta({ examples: ["enabled"] }),
    disabledReason: z
      .string()
      .nullable()
      .meta({ examples: ["The receiver answered 410 Gone."] }),
    disabledCode: z
      .enum(disableCodes)
      .nullable()
      .meta({ examples: ["gone"] }),
    disabledAt: Timestamp.nullable(),
    paused: z
      .boolean()
      .meta({ description: "By a pause of the endpoint, of its client, or of all deliveries.", examples: [false] }),
    consecutiveFailures: number.meta({ examples: [7] }),
    failingSince: Timestamp.nullable(),
    lastSuccessAt: Timestamp.nullable().meta({ description: "Rounded to the minute." }),
    pending,
    due,
    inFlight: number.meta({ examples: [1] }),
    oldestDueSeconds: OldestDue,
    capped,
    ratePerSecond: z
      .int()
      .nullable()
      .meta({ description: "The most attempts per second; null: no limit.", examples: [50] }),
  })
  .meta({ id: "DeliveryEndpoint" });
export type DeliveryEndpoint = z.output<typeof DeliveryEndpoint>;
export const DeliveryEndpointPage = pageOf(DeliveryEndpoint);

const anyScope = new RegExp(`^all$|${idPattern("client").source}|${idPattern("endpoint").source}`);
const PauseScope = z
  .string()
  .regex(anyScope, "Write `all`, the id of a client, or the id of a webhook endpoint.")
  .meta({
    description: "`all`, the id of a client, or the id of a webhook endpoint.",
    examples: [examples.endpoint, "all"],
  });

export const PauseAt = z.strictObject({ scope: PauseScope });
export const SetPause = z.strictObject({
  scope: PauseScope,
  reason: z
    .string()
    .trim()
    .min(1)
    .max(500)
    .meta({ description: "A note for other operators.", examples: ["The receiver is being moved."] }),
});
export type SetPause = z.output<typeof SetPause>;
export const ListPauses = z.strictObject(PageInput);
export type ListPauses = z.output<typeof ListPauses>;

export const Pause = z
  .object({
    scope: PauseScope,
    reason: SetPause.shape.reason,
    pausedBy: z.string().meta({ description: "Who created the pause.", examples: [examples.user] }),
    pausedAt: Timestamp,
    inFlight: number.meta({
      description: "Deliveries that started before the pause and still run. 0: drained.",
      examples: [0],
    }),
  })
  .meta({ id: "DeliveryPause" });
export type Pause = z.output<typeof Pause>;
export const PausePage = pageOf(Pause);
