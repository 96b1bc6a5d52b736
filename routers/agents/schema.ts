import { z } from "zod";
import { PageInput, pageOf } from "../page.ts";
import { examples, Id, Instant } from "../words.ts";

const fields = {
  name: z
    .string()
    .trim()
    .min(1)
    .max(100)
    .meta({ description: "For people; calls never hear it.", examples: ["Reception"] }),
  systemPrompt: z
    .string()
    .min(1)
    .max(50_000)
    .meta({
      description: "May hold `{{variables}}`, filled per call.",
      redact: "none",
      examples: ["You answer for Ada's bakery. Be brief."],
    }),
  model: z
    .string()
    .min(1)
    .max(100)
    .nullable()
    .meta({ description: "null: the provider's own choice.", examples: [null] }),
  voice: z
    .string()
    .min(1)
    .max(100)
    .nullable()
    .meta({ description: "A voice of the provider; null: its default.", examples: ["Mark"] }),
  languageHint: z
    .string()
    .min(2)
    .max(16)
    .nullable()
    .meta({ description: "BCP 47.", examples: ["en-GB"] }),
  temperature: z
    .number()
    .min(0)
    .max(1)
    .nullable()
    .meta({ examples: [0.3] }),
  firstSpeaker: z
    .enum(["agent", "user"])
    .meta({ description: "Who speaks first once the call is answered.", examples: ["agent"] }),
  greeting: z
    .string()
    .min(1)
    .max(2000)
    .nullable()
    .meta({ description: "What the agent opens with.", examples: ["Ada's bakery, good morning!"] }),
  recordingEnabled: z.boolean().meta({ examples: [true] }),
  maxDurationSeconds: z
    .int()
    .min(10)
    .max(14_400)
    .meta({ description: "A call ends at this length at the latest.", examples: [600] }),
  joinTimeoutSeconds: z
    .int()
    .min(5)
    .max(300)
    .meta({ description: "How long it may ring.", examples: [30] }),
};

export const AgentConfig = z.object(fields).omit({ name: true });
export type AgentConfig = z.output<typeof AgentConfig>;

export const CreateAgent = z.strictObject({
  name: fields.name,
  systemPrompt: fields.systemPrompt,
  model: fields.model.default(null),
  voice: fields.voice.default(null),
  languageHint: fields.languageHint.default(null),
  temperature: fields.temperature.default(null),
  firstSpeaker: fields.firstSpeaker.default("agent"),
  greeting: fields.greeting.default(null),
  recordingEnabled: fields.recordingEnabled.default(true),
  maxDurationSeconds: fields.maxDurationSeconds.default(600),
  joinTimeoutSeconds: fields.joinTimeoutSeconds.default(30),
});
export type CreateAgent = z.output<typeof CreateAgent>;

export const UpdateAgent = z.strictObject({ id: Id("agent", examples.agent), ...z.object(fields).partial().shape });
export type UpdateAgent = z.output<typeof UpdateAgent>;

export const AgentId = z.strictObject({ id: Id("agent", examples.agent) });
export const ListAgents = z.strictObject({
  ...PageInput,
  state: z
    .enum(["provisioning", "active", "failed"])
    .optional()
    .meta({ examples: ["active"] }),
});
export type ListAgents = z.output<typeof ListAgents>;

export const Agent = z
  .object({
    id: Id("agent", examples.agent),
    ...fields,
    state: z.enum(["provisioning", "active", "failed", "deleted"]).meta({ examples: ["active"] }),
    stateReason: z
      .string()
      .nullable()
      .meta({ examples: [null] }),
    version: z.int().meta({ description: "Grows by one with every change; 0 until the agent is live.", examples: [1] }),
    createdAt: Instant,
    updatedAt: Instant,
  })
  .meta({ id: "Agent" });
export type Agent = z.output<typeof Agent>;
export const AgentPage = pageOf(Agent);
