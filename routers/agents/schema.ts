import { z } from "zod";
import { examples, Id, Metadata, Timestamp } from "../core/fields.ts";
import { createdFilter, metadataFilter, searchFilter } from "../core/list-filters.ts";
import { PageInput, pageOf } from "../core/pagination.ts";
import { AgentConfig, configFields, inputFields } from "./config.ts";
import { objectionsToSchema } from "./output-schema.ts";

export { AgentConfig } from "./config.ts";

const agentId = Id("agent", examples.agent);
const statuses = ["provisioning", "active", "failed"] as const;
const Name = z
  .string()
  .trim()
  .min(1)
  .max(100)
  .meta({ description: "A label for people. Calls do not use it.", examples: ["Reception"] });
const Version = z
  .int()
  .min(1)
  .max(1_000_000)
  .meta({ examples: [2] });

/** Checked on input only: a stored schema was valid when it came in. */
const OutputSchema = configFields.outputSchema.superRefine((schema, check) => {
  for (const { path, message } of schema ? objectionsToSchema(schema) : []) {
    check.addIssue({ code: "custom", path: path ? path.split(".") : [], message, input: schema });
  }
});

const oneVoice = {
  path: ["voice"],
  message: "Give `voice` or `voiceId`, not both.",
};
const hasOneVoice = ({ voice, voiceId }: { voice?: string | null | undefined; voiceId?: string | null | undefined }) =>
  !(voice && voiceId);

export const CreateAgent = z
  .strictObject({
    name: Name,
    ...AgentConfig.shape,
    languageHint: inputFields.languageHint.default(null),
    languages: inputFields.languages.default([]),
    transferTargets: inputFields.transferTargets.default([]),
    outputSchema: OutputSchema.default(null),
    metadata: Metadata.default({}),
  })
  .refine(hasOneVoice, oneVoice);
export type CreateAgent = z.output<typeof CreateAgent>;

export const UpdateAgent = z
  .strictObject({
    id: agentId,
    name: Name.optional(),
    ...z.object({ ...configFields, ...inputFields, outputSchema: OutputSchema }).partial().shape,
    metadata: Metadata.optional(),
  })
  .refine(hasOneVoice, oneVoice);
export type UpdateAgent = z.output<typeof UpdateAgent>;

export const AgentId = z.strictObject({ id: agentId });
export const RemoveAgent = z.strictObject({
  id: agentId,
  force: z
    .boolean()
    .default(false)
    .meta({
      description: "Delete it although inbound routes lead to it. They then answer no calls.",
      examples: [false],
    }),
});
export type RemoveAgent = z.output<typeof RemoveAgent>;
export const DuplicateAgent = z.strictObject({
  id: agentId,
  name: Name.optional().meta({ description: "The name of the copy.", examples: ["Reception, at night"] }),
});
export type DuplicateAgent = z.output<typeof DuplicateAgent>;

export const ListAgents = z.strictObject({
  ...PageInput,
  status: z
    .enum(statuses)
    .optional()
    .meta({ description: "Only those with this status.", examples: ["active"] }),
  ...searchFilter,
  ...createdFilter,
  ...metadataFilter,
  voiceId: Id("voice", examples.voice).optional().meta({ description: "Only those that speak with this voice." }),
  toolId: Id("tool", examples.tool).optional().meta({ description: "Only those that use this tool." }),
  knowledgeBaseId: Id("knowledgeBase", examples.knowledgeBase)
    .optional()
    .meta({ description: "Only those that use this knowledge base." }),
});
export type ListAgents = z.output<typeof ListAgents>;

export const Agent = z
  .object({
    id: agentId,
    name: Name,
    ...configFields,
    metadata: z.record(z.string(), z.string()).meta({ examples: [{ team: "north" }] }),
    status: z.enum([...statuses, "deleted"]).meta({ examples: ["active"] }),
    statusReason: z
      .string()
      .nullable()
      .meta({ examples: [null] }),
    version: z
      .int()
      .meta({ description: "Increases by one with every change. 0 until the agent is live.", examples: [1] }),
    createdAt: Timestamp,
    updatedAt: Timestamp,
  })
  .meta({ id: "Agent" });
export type Agent = z.output<typeof Agent>;
export const AgentPage = pageOf(Agent);

export const ListVersions = z.strictObject({ id: agentId, ...PageInput, ...createdFilter });
export type ListVersions = z.output<typeof ListVersions>;
export const AgentVersionId = z.strictObject({
  id: agentId,
  version: Version.meta({ description: "Its number, as the list of versions has it.", examples: [2] }),
});
export type AgentVersionId = z.output<typeof AgentVersionId>;

const versionFields = {
  agentId,
  version: Version,
  name: Name,
  status: z.enum(["pending", "live", "retired", "failed"]).meta({
    description: "`live`: calls use it. `retired`: calls used it before. `failed`: the voice provider refused it.",
    examples: ["live"],
  }),
  changed: z.array(z.string()).meta({
    description: "The fields that differ from the version that was live when this one was created.",
    examples: [["systemPrompt"]],
  }),
  createdBy: z.string().meta({ examples: [examples.apiKey] }),
  createdAt: Timestamp,
  providerRevisionId: z
    .string()
    .nullable()
    .meta({ examples: [null] }),
};
export const AgentVersionSummary = z.object(versionFields).meta({ id: "AgentVersionSummary" });
export type AgentVersionSummary = z.output<typeof AgentVersionSummary>;
export const VersionPage = pageOf(AgentVersionSummary);
export const AgentVersion = z.object({ ...versionFields, config: z.object(configFields) }).meta({ id: "AgentVersion" });
export type AgentVersion = z.output<typeof AgentVersion>;
