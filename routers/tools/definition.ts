import { z } from "zod";
import { jsonObject } from "../core/bounds.ts";
import { FreeNumber } from "../core/fields.ts";
import { objectionToCallee } from "../core/sip-address.ts";
import { isTemplate } from "../core/template-text.ts";
import { isHeaderValue, objectionToHeader } from "../ports/addresses.ts";
import { objectionToSchema, schemaBytes, schemaDepth } from "./json-schema.ts";
import { objectionToPattern, placeholdersOf } from "./url-pattern.ts";

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
const In = z
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

const HttpShape = z.strictObject({
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

const ClientShape = z.strictObject({
  type: z.literal("client"),
  parameters: z
    .array(z.strictObject(modelParameter))
    .max(50)
    .default([])
    .meta({ description: "What the model fills in." }),
  ...responseFields,
});
export type ClientDefinition = z.output<typeof ClientShape>;

const BuiltinShape = z.strictObject({
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

const definitionMeta = {
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

/** A definition as input. Fields that conflict are reported, each under its own path. */
export const GivenDefinition = z
  .discriminatedUnion("type", [
    HttpShape.superRefine(checking(contradictionsIn)),
    ClientShape.superRefine(checking(repeatedIn)),
    BuiltinShape.superRefine(checking(overrideProblemsIn)),
  ])
  .meta(definitionMeta);

type Objection = { path: (string | number)[]; message: string };
type Placed = { name: string; in: z.output<typeof In>; list: string; index: number };

function checking<T>(objections: (given: T) => Objection[]) {
  return (given: T, check: z.RefinementCtx) => {
    for (const { path, message } of objections(given)) check.addIssue({ code: "custom", path, message });
  };
}

const duplicateMessage = (name: string) => `Another parameter has the name ${name}. Choose another name.`;

function contradictionsIn(http: HttpDefinition): Objection[] {
  const pattern = objectionToPattern(http.url);
  if (pattern) return [{ path: ["url"], message: pattern }];
  const placed = placedIn(http);
  return [
    ...invalidSchemas(http.parameters),
    ...placed.flatMap((parameter) => objectionsTo(parameter, http)),
    ...placed.flatMap((parameter, index) => duplicateAt(placed, parameter, index)),
    ...missingPlaces(http, placed),
    ...optionalPlaces(http),
    ...valuesOfHeaders(http),
    ...clashesWithAuth(http, placed),
  ];
}

function placedIn({ parameters, staticParameters, automaticParameters }: HttpDefinition): Placed[] {
  const lists = { parameters, staticParameters, automaticParameters };
  return Object.entries(lists).flatMap(([list, entries]) =>
    entries.map((entry, index) => ({ name: entry.name, in: entry.in, list, index })),
  );
}

function objectionsTo({ name, in: place, list, index }: Placed, { url, method }: HttpDefinition): Objection[] {
  const at = (field: string, message: string) => [{ path: [list, index, field], message }];
  if (place === "path" && !placeholdersOf(url).includes(name))
    return at("name", `The URL has no placeholder {${name}} for this parameter. Add one.`);
  if (place === "body" && method === "GET")
    return at("in", "A GET request has no body. Put the parameter in the query, or use POST.");
  const objection = place === "header" ? objectionToHeader(name) : null;
  return objection ? at("name", objection) : [];
}

/** A name is unique per place. It is unique among all model parameters too, since the model does not see places. */
function duplicateAt(placed: Placed[], { name, in: place, list, index }: Placed, at: number): Objection[] {
  const same = (other: Placed) =>
    other.in === place && (place === "header" ? lower(other.name) === lower(name) : other.name === name);
  const alike = (other: Placed) => list === "parameters" && other.list === list && other.name === name;
  const first = placed.findIndex((other) => same(other) || alike(other));
  return first < at ? [{ path: [list, index, "name"], message: duplicateMessage(name) }] : [];
}

function missingPlaces({ url }: HttpDefinition, placed: Placed[]): Objection[] {
  const names = placed.filter((parameter) => parameter.in === "path").map(({ name }) => name);
  const missing = [...new Set(placeholdersOf(url))].filter((name) => !names.includes(name));
  return missing.map((name) => ({ path: ["url"], message: `No parameter in \`path\` fills {${name}}. Add one.` }));
}

function optionalPlaces({ parameters }: HttpDefinition): Objection[] {
  return parameters.flatMap(({ in: place, required }, index) =>
    place === "path" && !required
      ? [
          {
            path: ["parameters", index, "required"],
            message: "A path parameter is always required. Set `required` to true.",
          },
        ]
      : [],
  );
}

function valuesOfHeaders({ staticParameters }: HttpDefinition): Objection[] {
  return staticParameters.flatMap(({ in: place, value }, index) =>
    place === "header" && !isHeaderValue(String(value))
      ? [
          {
            path: ["staticParameters", index, "value"],
            message: "A header cannot contain these characters. Remove them.",
          },
        ]
      : [],
  );
}

function clashesWithAuth({ auth }: HttpDefinition, placed: Placed[]): Objection[] {
  if (!auth) return [];
  const objection = auth.type === "header" ? objectionToHeader(auth.name) : null;
  if (objection) return [{ path: ["auth", "name"], message: objection }];
  const place = auth.type === "query" ? "query" : "header";
  const name = "name" in auth ? auth.name : "authorization";
  const same = (given: string) => (place === "header" ? lower(given) === lower(name) : given === name);
  return placed
    .filter((parameter) => parameter.in === place && same(parameter.name))
    .map(({ list, index }) => ({
      path: [list, index, "name"],
      message: `\`auth\` already sets ${name}. Remove this parameter.`,
    }));
}

const lower = (text: string) => text.toLowerCase();

function invalidSchemas(parameters: { schema: Record<string, unknown> }[]): Objection[] {
  return parameters.flatMap(({ schema }, index) => {
    const message = objectionToSchema(schema);
    return message ? [{ path: ["parameters", index, "schema"], message }] : [];
  });
}

function repeatedIn({ parameters }: ClientDefinition): Objection[] {
  const repeated = parameters.flatMap(({ name }, index) =>
    parameters.findIndex((other) => other.name === name) < index
      ? [{ path: ["parameters", index, "name"], message: duplicateMessage(name) }]
      : [],
  );
  return [...invalidSchemas(parameters), ...repeated];
}

function overrideProblemsIn({ name: builtin, parameterOverrides }: BuiltinDefinition): Objection[] {
  const known: Record<string, z.ZodType> = builtins[builtin];
  const problems = Object.entries(parameterOverrides).flatMap(([name, value]) => {
    const path = ["parameterOverrides", name];
    const read = known[name]?.safeParse(value);
    if (!read)
      return [{ path, message: `Only these parameters of ${builtin} can be fixed: ${Object.keys(known).join(", ")}.` }];
    return read.success ? [] : [{ path, message: read.error.issues[0]?.message ?? "This value is not valid." }];
  });
  // If the model chose the target, it could dial any number.
  if (isTransfer(builtin) && parameterOverrides.target === undefined)
    problems.push({ path: ["parameterOverrides", "target"], message: "Give the target: a number or a SIP URI." });
  return problems;
}
