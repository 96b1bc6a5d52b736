import { z } from "zod";
import { jsonObject } from "../core/bounds.ts";
import { examples, Id, Metadata, Timestamp } from "../core/fields.ts";
import { createdFilter, metadataFilter, searchFilter } from "../core/list-filters.ts";
import { PageInput, pageOf } from "../core/pagination.ts";
import { Definition } from "./definition.ts";
import { DefinitionInput } from "./definition-input.ts";

const kinds = ["http", "client", "builtin"] as const;
const id = Id("tool", examples.tool);

const fields = {
  name: z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,64}$/, "A name has 1 to 64 letters, digits, `_` and `-`.")
    .meta({ description: "The name that the model uses.", examples: ["lookup_order"] }),
  description: z
    .string()
    .trim()
    .min(1)
    .max(4000)
    .meta({
      description: "What the tool does and when to use it, for the model.",
      examples: ["Finds an order by its number. Use it when the caller wants to know where their order is."],
    }),
  definition: DefinitionInput,
  metadata: Metadata,
};

export const CreateTool = z.strictObject({ ...fields, metadata: fields.metadata.default({}) });
export type CreateTool = z.output<typeof CreateTool>;

export const UpdateTool = z.strictObject({
  id,
  name: fields.name.optional().meta({ examples: ["find_order"] }),
  description: fields.description.optional(),
  definition: fields.definition.optional(),
  metadata: fields.metadata.optional(),
});
export type UpdateTool = z.output<typeof UpdateTool>;

export const ToolId = z.strictObject({ id });

export const RemoveTool = z.strictObject({
  id,
  force: z
    .boolean()
    .default(false)
    .meta({ description: "Delete it although agents use it. Their calls then work without it.", examples: [false] }),
});
export type RemoveTool = z.output<typeof RemoveTool>;

export const ListTools = z.strictObject({
  ...PageInput,
  kind: z
    .enum(kinds)
    .optional()
    .meta({ description: "Only those whose `definition` has this type.", examples: ["http"] }),
  status: z
    .enum(["provisioning", "active", "failed"])
    .optional()
    .meta({ description: "Only those with this status.", examples: ["active"] }),
  ...searchFilter,
  ...createdFilter,
  ...metadataFilter,
});
export type ListTools = z.output<typeof ListTools>;

export const Tool = z
  .object({
    id,
    name: fields.name,
    description: fields.description,
    kind: z.enum(kinds).meta({ examples: ["http"] }),
    definition: Definition,
    status: z.enum(["provisioning", "active", "failed", "deleted"]).meta({ examples: ["active"] }),
    statusReason: z
      .string()
      .nullable()
      .meta({ examples: [null] }),
    version: z
      .int()
      .meta({ description: "Increases by one with every change. 0 until the tool is live.", examples: [1] }),
    metadata: fields.metadata,
    createdAt: Timestamp,
    updatedAt: Timestamp,
  })
  .meta({ id: "Tool" });
export type Tool = z.output<typeof Tool>;
export const ToolPage = pageOf(Tool);

export const TestTool = z.strictObject({
  id,
  parameters: jsonObject({ bytes: 16_000, depth: 32 })
    .default({})
    .meta({
      description: "The values that the model would give.",
      redact: "personal",
      examples: [{ orderId: "10248" }],
    }),
  samples: z
    .strictObject({
      callId: z
        .string()
        .min(1)
        .max(100)
        .optional()
        .meta({ examples: ["0d0e6b51-6e5a-4a3c-9d8a-0a5c8f9b1a11"] }),
      callState: jsonObject({ bytes: 16_000, depth: 32 })
        .optional()
        .meta({ examples: [{}] }),
      callMetadata: Metadata.optional(),
    })
    .default({})
    .meta({
      description: "The values that the provider would fill in from the call.",
      redact: "personal",
      examples: [{ callId: "0d0e6b51-6e5a-4a3c-9d8a-0a5c8f9b1a11" }],
    }),
});
export type TestTool = z.output<typeof TestTool>;

const Texts = z.record(z.string(), z.string());

export const ToolTest = z
  .object({
    request: z
      .object({
        method: z.string().meta({ examples: ["GET"] }),
        url: z.string().meta({ examples: ["https://api.example.com/orders/10248"] }),
        headers: Texts.meta({ examples: [{ authorization: "Bearer [secret]" }] }),
        body: z
          .string()
          .nullable()
          .meta({ examples: [null] }),
      })
      .meta({ description: "The request that was sent. The secret is replaced by `[secret]`." }),
    response: z
      .object({
        status: z.int().meta({ examples: [200] }),
        headers: Texts.meta({ examples: [{ "content-type": "application/json" }] }),
        body: z.string().meta({ description: "The first 4 kB.", examples: ['{"status":"shipped"}'] }),
        truncated: z.boolean().meta({ examples: [false] }),
      })
      .nullable()
      .meta({ description: "null if there was no response." }),
    error: z
      .object({
        reason: z.string().meta({ examples: ["timeout"] }),
        message: z.string().meta({ examples: ["The tool did not respond within 20 s."] }),
      })
      .nullable()
      .meta({ description: "Why there was no response.", examples: [null] }),
    latencyMs: z.int().meta({ examples: [87] }),
    wouldTimeOut: z
      .boolean()
      .meta({ description: "Whether the provider would have timed out in a call.", examples: [false] }),
  })
  .meta({ id: "ToolTest" });
export type ToolTest = z.output<typeof ToolTest>;
