import { z } from "zod";
import { boundedRecord } from "../../core/bounds.ts";
import { examples, Id, TimestampInput } from "../../core/fields.ts";
import { PageInput } from "../../core/pagination.ts";
import { outcomes, statuses } from "../schema.ts";
import { searchTermsOf } from "./search-terms.ts";

const Text = z.string().max(320);
const Seconds = z
  .int()
  .min(0)
  .max(86_400)
  .meta({ examples: [60] });

/** The filters of a list of calls. A call must match all of them. */
const filters = {
  status: z
    .enum(statuses)
    .optional()
    .meta({ description: "Calls with this status.", examples: ["ended"] }),
  outcome: z
    .enum(outcomes)
    .optional()
    .meta({ description: "Calls with this outcome. It is provisional until `outcomeFinal`.", examples: ["completed"] }),
  agentId: Id("agent", examples.agent)
    .optional()
    .meta({ description: "Calls of this agent. A deleted agent is allowed." }),
  direction: z
    .enum(["outbound", "inbound", "web"])
    .optional()
    .meta({ description: "Who started the call. `web`: a person joined at `joinUrl`.", examples: ["outbound"] }),
  number: Text.optional().meta({
    description: "The caller or the called number, in E.164.",
    examples: ["+14155550100"],
  }),
  to: Text.optional().meta({
    description: "The called number or SIP address.",
    examples: ["+14155550100"],
  }),
  from: Text.optional().meta({ description: "The calling number or SIP address.", examples: ["+14155550199"] }),
  createdAfter: TimestampInput.optional().meta({
    description: "Created at this time or later.",
    examples: [examples.instant],
  }),
  createdBefore: TimestampInput.optional().meta({
    description: "Created before this time.",
    examples: [examples.instant],
  }),
  minDurationSeconds: Seconds.optional().meta({
    description: "The shortest duration, from answer to end. Calls that have not ended never match.",
    examples: [30],
  }),
  maxDurationSeconds: Seconds.optional().meta({
    description: "The longest duration, from answer to end.",
    examples: [600],
  }),
  hasRecording: z
    .boolean()
    .optional()
    .meta({ description: "Whether a recording can be downloaded.", examples: [true] }),
  metadata: boundedRecord(z.string().max(40), z.string().max(500), 5).optional().meta({
    description: "The call must have all of these pairs. Write `metadata=key:value`; repeat it for each pair.",
  }),
  search: z
    .string()
    .max(200)
    .refine((text) => searchTermsOf(text).length > 0, "Give at least one word of two or more characters.")
    .refine((text) => searchTermsOf(text).length <= 8, "Give at most 8 words.")
    .optional()
    .meta({
      description: "Whole words of the transcript. All must occur, in any order.",
      examples: ["refund thursday"],
    }),
};

export const ListCalls = z.strictObject({ ...PageInput, ...filters });
export type ListCalls = z.output<typeof ListCalls>;
export const ExportCalls = z.strictObject(filters);
export type CallFilters = z.output<typeof ExportCalls>;
