import { z } from "zod";
import { jsonObject } from "../core/bounds.ts";
import { FreeNumber } from "../core/fields.ts";
import { objectionToCallee } from "../core/sip-address.ts";
import { isTemplate } from "../core/template-text.ts";
import { schemaBytes, schemaDepth } from "./json-schema.ts";

/** Checks the target of a transfer. A target with variables is checked per call, once they are filled in. */
export const objectionToTarget = (text: string) => (isTemplate(text) ? null : objectionToCallee(text));
const Target = z
  .string()
  .max(320)
  .superRefine((text, check) => {
    const message = objectionToTarget(text);
    if (message) check.addIssue({ code: "custom", message, input: text });
  });

/** The provider's built-in tools, with the parameters that can be fixed. */
export const builtins = {
  hangUp: { strict: z.boolean() },
  leaveVoicemail: { message: z.string().max(2000), strict: z.boolean(), result: z.string().max(500) },
  playDtmfSounds: { digits: z.string().regex(/^[0-9A-D*#wW]{1,60}$/, "Use the digits 0-9, A-D, * and #.") },
  coldTransfer: { target: Target, sipVerb: z.enum(["REFER", "INVITE"]) },
  warmTransfer: { target: Target },
} as const satisfies Record<string, Record<string, z.ZodType>>;
export type BuiltinName = keyof typeof builtins;
/** True if the built-in tool transfers the call to another person. */
export const isTransfer = (builtin: string) => builtin.endsWith("Transfer");
const builtinNames = Object.keys(builtins) as BuiltinName[];
/** A client's tool with one of these names would replace the built-in one. */
export const providersNames = [...builtinNames, "queryCorpus"];

export const automaticValues = [
  "call_id",
  "conversation_history",
  "call_state",
  "call_stage_id",
  "output_sample_rate",
  "call_metadata",
] as const;
export type AutomaticValue = (typeof automaticValues)[number];

const ParameterName = z
  .string()
  .regex(/^[A-Za-z0-9_.-]{1,64}$/, "A name has 1 to 64 letters, digits, `_`, `-` and `.`.")
  .meta({ examples: ["orderId"] });
export const In = z
  .enum(["path", "query", "header", "body"])
  .meta({ description: "Where the value goes in the request.", examples: ["path"] });

const modelParameter = {
  name: ParameterName,
  description: z
    .string()
    .trim()
    .max(1000)
    .default("")
    .meta({ description: "What the model fills in here.", examples: ["The order's number, as on the receipt."] }),
  schema: z.record(z.string().max(200), z.unknown()).meta({
    json: { bytes: schemaBytes, depth: schemaDepth },
    description: "JSON Schema, draft 2020-12, of at most 8000 bytes and 10 levels, without references.",
    examples: [{ type: "string", minLength: 3 }],
  }),
  required: z
    .boolean()
    .default(true)
    .meta({ examples: [true] }),
};

const Parameter = z.strictObject({ in: In, ...modelParameter });
const StaticParameter = z.strictObject({
  name: ParameterName,
  in: In,
  value: z
    .union([z.string().max(2000), FreeNumber, z.boolean()])
    .meta({ description: "Do not put a secret here; use `auth`.", redact: "secret", examples: ["voice"] }),
});
const AutomaticParameter = z.strictObject({
  name: ParameterName,
  in: In,
  value: z
    .enum(automaticValues)
    .meta({ description: "The voice provider fills it in. The model cannot change it.", examples: ["call_id"] }),
});

const Credential = z
  .string()
  .regex(/^custom-[a-z0-9][a-z0-9-]{0,39}$/, "Name a stored credential: `custom-<name>`.")
  .meta({ examples: ["custom-crm"] });
const Auth = z
  .discriminatedUnion("type", [
    z.strictObject({ type: z.literal("header"), name: z.string().min(1).max(100), credential: Credential }),
    z.strictObject({ type: z.literal("query"), name: ParameterName, credential: Credential }),
    z.strictObject({ type: z.literal("bearer"), credential: Credential }),
    z.strictObject({ type: z.literal("basic"), credential: Credential }),
  ])
  .meta({
    description:
      "How the request authenticates. `credential` is the name of a secret stored by PUT /auth/providers/custom-<name>; for `basic` the secret is `user:password`.",
    redact: "none",
    examples: [{ type: "bearer", credential: "custom-crm" }],
  });

const responseFields = {
  timeoutSeconds: z
    .int()
    .min(1)
    .max(40)
    .default(20)
    .meta({
      description:
        "How long the provider waits for the tool. The conversation pauses meanwhile. The provider's default of 2.5 s is not used: after a timeout it calls the tool again, so a tool that books or pays would do so twice.",
      examples: [20],
    }),
  reaction: z
    .enum(["speaks", "listens", "speaks_once"])
    .default("speaks")
    .meta({ description: "What the agent does once it has the result.", examples: ["speaks"] }),
  staticResponse: z
    .string()
    .trim()
    .min(1)
    .max(2000)
    .nullable()
    .default(null)
    .meta({ description: "Given to the model immediately, instead of the tool's response.", examples: [null] }),
};

export const HttpShape = z.strictObject({
  type: z.literal("http"),
  url: z
    .string()
    .max(2000)
    .meta({
      description:
        "An https URL with a public host. `{name}` in the path is replaced by the path parameter of that name.",
      redact: "none",
      examples: ["https://api.example.com/orders/{orderId}"],
    }),
  method: z.enum(["GET", "POST", "PUT", "PATCH", "DELETE"]).meta({ examples: ["GET"] }),
  parameters: z.array(Parameter).max(50).default([]).meta({ description: "What the model fills in." }),
  staticParameters: z
    .array(StaticParameter)
    .max(50)
    .default([])
    .meta({ description: "Parameters with a fixed value." }),
  automaticParameters: z.array(AutomaticParameter).max(20).default([]),
  auth: Auth.nullable().default(null),
  ...responseFields,
});
export type HttpDefinition = z.output<typeof HttpShape>;

export const ClientShape = z.strictObject({
  type: z.literal("client"),
  parameters: z
    .array(z.strictObject(modelParameter))
    .max(50)
    .default([])
    .meta({ description: "What the model fills in." }),
  ...responseFields,
});
export type ClientDefinition = z.output<typeof ClientShape>;

export const BuiltinShape = z.strictObject({
  type: z.literal("builtin"),
  name: z
    .enum(
      builtinNames,
      `Use one of ${builtinNames.join(", ")}. Instead of queryCorpus, set an agent's \`knowledgeBaseIds\`.`,
    )
    .meta({ examples: ["hangUp"] }),
  parameterOverrides: jsonObject({ bytes: 8_000, depth: 10 })
    .default({})
    .meta({ description: "Parameters with a fixed value, by the provider's names.", examples: [{ strict: true }] }),
});
export type BuiltinDefinition = z.output<typeof BuiltinShape>;

export const definitionMeta = {
  description:
    "`http`: the provider calls a URL. `client`: the app of the other party runs it, over its data channel; not in telephone calls. `builtin`: a tool of the provider, with some parameters fixed.",
  examples: [
    {
      type: "http",
      url: "https://api.example.com/orders/{orderId}",
      method: "GET",
      parameters: [
        {
          name: "orderId",
          in: "path",
          description: "The order's number, as on the receipt.",
          schema: { type: "string", minLength: 3 },
          required: true,
        },
      ],
      staticParameters: [{ name: "source", in: "query", value: "voice" }],
      automaticParameters: [{ name: "x-call-id", in: "header", value: "call_id" }],
      auth: null,
      timeoutSeconds: 20,
      reaction: "speaks",
      staticResponse: null,
    },
  ],
};

/** A stored definition. It was checked as input, so a later rule does not hide it. */
export const Definition = z.discriminatedUnion("type", [HttpShape, ClientShape, BuiltinShape]).meta(definitionMeta);
export type Definition = z.output<typeof Definition>;

/** The `config` column of a tool. */
export const Config = z.object({ definition: Definition });
