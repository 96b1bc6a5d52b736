import { z } from "zod";
import { examples, Id, Timestamp } from "../../core/fields.ts";
import { PageInput, pageOf } from "../../core/pagination.ts";
import { legCauses } from "../../ports/carriers.ts";

export const ListLegs = z.strictObject({ ...PageInput, id: Id("call", examples.call) });
export type ListLegs = z.output<typeof ListLegs>;

const CarrierText = (example: string) =>
  z
    .string()
    .nullable()
    .meta({ examples: [example] });

export const CallLeg = z
  .object({
    id: Id("leg", examples.leg),
    callId: Id("call", examples.call),
    carrier: z.enum(["telnyx"]).meta({ examples: ["telnyx"] }),
    carrierLegId: z.string().meta({ description: "The carrier's id of the leg.", examples: ["v3:9X2vxPDFY2RH"] }),
    carrierSessionId: CarrierText("428c31b6-abf3-3bc1-b7f4-5013ef9657c1").meta({
      description: "The carrier's id of the conversation, shared by its legs.",
    }),
    direction: z
      .enum(["incoming", "outgoing"])
      .nullable()
      .meta({ examples: ["outgoing"] }),
    from: CarrierText("+14155550199"),
    to: CarrierText("+14155550100"),
    status: z.enum(["initiated", "answered", "ended"]).meta({ examples: ["ended"] }),
    cause: z
      .enum(legCauses)
      .nullable()
      .meta({
        description:
          "Why the leg ended. `hangupCause`, `hangupSource` and `sipHangupCause` have the carrier's own values.",
        examples: ["busy"],
      }),
    hangupCause: CarrierText("user_busy"),
    hangupSource: CarrierText("callee"),
    sipHangupCause: CarrierText("486"),
    startedAt: Timestamp.nullable(),
    answeredAt: Timestamp.nullable(),
    endedAt: Timestamp.nullable(),
    durationSeconds: z
      .int()
      .nullable()
      .meta({ description: "From answer to end. null until the leg has ended.", examples: [0] }),
    carrierCost: z
      .object({
        amount: z.string().meta({ description: "An exact decimal number.", examples: ["0.0050"] }),
        currency: CarrierText("USD"),
      })
      .nullable()
      .meta({ description: "What your own carrier account was charged. null if the platform's account was used." }),
  })
  .meta({ id: "CallLeg" });
export type CallLeg = z.output<typeof CallLeg>;
export const LegPage = pageOf(CallLeg);
