import { z } from "zod";
import { jsonObject } from "../core/bounds.ts";
import { FreeNumber } from "../core/fields.ts";
import { objectionToCallee } from "../core/sip-address.ts";
import { isTemplate } from "../core/template-text.ts";
import { isHeaderValue, objectionToHeader } from "../ports/addresses.ts";
import { objectionToSchema, schemaBytes, schemaDepth } from "./json-schema.ts";
import { objectionToPattern, placeholdersOf } from "./url-pattern.ts";

/** Whom a transfer goes to; with variables in it, that is judged for each call, when they are filled in. */
export const objectionToTarget = (text: string) => (isTemplate(text) ? null : objectionToCallee(text));
const Target = z
  .string()
  .max(320)
  .superRefine((text, check) => {
    const message = objectionToTarget(text);
    if (message) check.addIssue({ code: "custom", message, input: text });
  });

/** What the provider brings itself, and what of it may be fixed for the model. */
export const builtins = {
  hangUp: { strict: z.boolean() },
  leaveVoicemail: { message: z.string().max(2000), strict: z.boolean(), result: z.string().max(500) },
  playDtmfSounds: { digits: z.string().regex(/^[0-9A-D*#wW]{1,60}$/, "Digits are 0-9, A-D, * and #.") },
  coldTransfer: { target: Target, sipVerb: z.enum(["REFER", "INVITE"]) },
  warmTransfer: { target: Target },
} as const satisfies Record<string, Record<string, z.ZodType>>;
export type BuiltinName = keyof typeof builtins;
/** Does it hand the call on to somebody else? */
export const isTransfer = (builtin: string) => builtin.endsWith("Transfer");
const builtinNames = Object.keys(builtins) as BuiltinName[];
/** A tool of a client's that has one of these names would take its place. */
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
  .regex(/^[A-Za-z0-9_.-]{1,64}$/, "A name is 1 to 64 letters, digits, `_`, `-` and `.`.")
  .meta({ examples: ["orderId"] });
const In = z.enum(["path", "query", "header", "body"]).meta({ description: "Where it is put.", examples: ["path"] });

const spoken = {
  name: ParameterName,
  description: z
    .string()
    .trim()
    .max(1000)
    .default("")
    .meta({ description: "Tells the model what to put here.", examples: ["The order's number, as on the receipt."] }),
  schema: z.record(z.string().max(200), z.unknown()).meta({
    json: { bytes: schemaBytes, depth: schemaDepth },
    description: "JSON Schema, draft 2020-12: at most 8000 bytes and 10 levels, and no references.",
    examples: [{ type: "string", minLength: 3 }],
  }),
  required: z
    .boolean()
    .default(true)
    .meta({ examples: [true] }),
};

const Parameter = z.strictObject({ in: In, ...spoken });
const StaticParameter = z.strictObject({
  name: ParameterName,
  in: In,
  value: z
    .union([z.string().max(2000), FreeNumber, z.boolean()])
    .meta({ description: "Not for secrets: those go by `auth`.", redact: "secret", examples: ["voice"] }),
});
const AutomaticParameter = z.strictObject({
  name: ParameterName,
  in: In,
  value: z
    .enum(automaticValues)
    .meta({ description: "Filled in by the voice provider; the model cannot change it.", examples: ["call_id"] }),
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
      "How the request shows who it is from. `credential` names a secret stored by PUT /auth/providers/custom-<name>; for `basic` it is `user:password`.",
    redact: "none",
    examples: [{ type: "bearer", credential: "custom-crm" }],
  });

const answering = {
  timeoutSeconds: z
    .int()
    .min(1)
    .max(40)
    .default(20)
    .meta({
      description:
        "How long the provider waits for the tool; the conversation stands still meanwhile. Its own default of 2.5 s is not used: it calls a tool that is slower than its timeout a second time, so a tool that books or pays would do so twice.",
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
    .meta({ description: "Given to the model at once instead of the tool's answer.", examples: [null] }),
};

const HttpShape = z.strictObject({
  type: z.literal("http"),
  url: z
    .string()
    .max(2000)
    .meta({
      description: "https, on the open internet. `{name}` in its path stands for the path parameter of that name.",
      redact: "none",
      examples: ["https://api.example.com/orders/{orderId}"],
    }),
  method: z.enum(["GET", "POST", "PUT", "PATCH", "DELETE"]).meta({ examples: ["GET"] }),
  parameters: z.array(Parameter).max(50).default([]).meta({ description: "What the model fills in." }),
  staticParameters: z.array(StaticParameter).max(50).default([]).meta({ description: "Always the same." }),
  automaticParameters: z.array(AutomaticParameter).max(20).default([]),
  auth: Auth.nullable().default(null),
  ...answering,
});
export type HttpDefinition = z.output<typeof HttpShape>;

const ClientShape = z.strictObject({
  type: z.literal("client"),
  parameters: z.array(z.strictObject(spoken)).max(50).default([]).meta({ description: "What the model fills in." }),
  ...answering,
});
export type ClientDefinition = z.output<typeof ClientShape>;

const BuiltinShape = z.strictObject({
  type: z.literal("builtin"),
  name: z
    .enum(builtinNames, `One of ${builtinNames.join(", ")}. What queryCorpus does, an agent's \`knowledgeBaseIds\` do.`)
    .meta({ examples: ["hangUp"] }),
  parameterOverrides: jsonObject({ bytes: 8_000, depth: 10 })
    .default({})
    .meta({ description: "Fixed for the model, by the provider's own names.", examples: [{ strict: true }] }),
});
export type BuiltinDefinition = z.output<typeof BuiltinShape>;

const told = {
  description:
    "`http`: the provider calls a URL. `client`: the app at the other end does it, over its data channel; a telephone cannot. `builtin`: one that the provider brings, with some of its parameters fixed.",
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

/** A tool as it is given back: it was looked at when it came in, and what was good then is shown for ever. */
export const Definition = z.discriminatedUnion("type", [HttpShape, ClientShape, BuiltinShape]).meta(told);
export type Definition = z.output<typeof Definition>;

/** As a row keeps it. */
export const Config = z.object({ definition: Definition });

/** A tool as it comes in: fields that do not go together are named, each by its own place. */
export const GivenDefinition = z
  .discriminatedUnion("type", [
    HttpShape.superRefine(checking(contradictionsIn)),
    ClientShape.superRefine(checking(repeatedIn)),
    BuiltinShape.superRefine(checking(misfitsIn)),
  ])
  .meta(told);

type Objection = { path: (string | number)[]; message: string };
type Placed = { name: string; in: z.output<typeof In>; list: string; index: number };

function checking<T>(objections: (given: T) => Objection[]) {
  return (given: T, check: z.RefinementCtx) => {
    for (const { path, message } of objections(given)) check.addIssue({ code: "custom", path, message });
  };
}

const twice = (name: string) => `There is a parameter ${name} already; give each a name of its own.`;

function contradictionsIn(http: HttpDefinition): Objection[] {
  const pattern = objectionToPattern(http.url);
  if (pattern) return [{ path: ["url"], message: pattern }];
  const placed = placedIn(http);
  return [
    ...notSchemas(http.parameters),
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
  const say = (field: string, message: string) => [{ path: [list, index, field], message }];
  if (place === "path" && !placeholdersOf(url).includes(name))
    return say("name", `The URL has no place {${name}} for this parameter.`);
  if (place === "body" && method === "GET") return say("in", "A GET has no body: put it in the query, or use POST.");
  const objection = place === "header" ? objectionToHeader(name) : null;
  return objection ? say("name", objection) : [];
}

/** One name in one place; and the model, which sees no places, must have one name for one thing. */
function duplicateAt(placed: Placed[], { name, in: place, list, index }: Placed, at: number): Objection[] {
  const same = (other: Placed) =>
    other.in === place && (place === "header" ? lower(other.name) === lower(name) : other.name === name);
  const alike = (other: Placed) => list === "parameters" && other.list === list && other.name === name;
  const first = placed.findIndex((other) => same(other) || alike(other));
  return first < at ? [{ path: [list, index, "name"], message: twice(name) }] : [];
}

function missingPlaces({ url }: HttpDefinition, placed: Placed[]): Objection[] {
  const names = placed.filter((parameter) => parameter.in === "path").map(({ name }) => name);
  const missing = [...new Set(placeholdersOf(url))].filter((name) => !names.includes(name));
  return missing.map((name) => ({ path: ["url"], message: `No parameter in \`path\` fills {${name}}.` }));
}

function optionalPlaces({ parameters }: HttpDefinition): Objection[] {
  return parameters.flatMap(({ in: place, required }, index) =>
    place === "path" && !required
      ? [{ path: ["parameters", index, "required"], message: "A path parameter is always required." }]
      : [],
  );
}

function valuesOfHeaders({ staticParameters }: HttpDefinition): Objection[] {
  return staticParameters.flatMap(({ in: place, value }, index) =>
    place === "header" && !isHeaderValue(String(value))
      ? [{ path: ["staticParameters", index, "value"], message: "A header cannot hold these characters." }]
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
    .map(({ list, index }) => ({ path: [list, index, "name"], message: `\`auth\` sets ${name} already.` }));
}

const lower = (text: string) => text.toLowerCase();

function notSchemas(parameters: { schema: Record<string, unknown> }[]): Objection[] {
  return parameters.flatMap(({ schema }, index) => {
    const message = objectionToSchema(schema);
    return message ? [{ path: ["parameters", index, "schema"], message }] : [];
  });
}

function repeatedIn({ parameters }: ClientDefinition): Objection[] {
  const repeated = parameters.flatMap(({ name }, index) =>
    parameters.findIndex((other) => other.name === name) < index
      ? [{ path: ["parameters", index, "name"], message: twice(name) }]
      : [],
  );
  return [...notSchemas(parameters), ...repeated];
}

function misfitsIn({ name: builtin, parameterOverrides }: BuiltinDefinition): Objection[] {
  const known: Record<string, z.ZodType> = builtins[builtin];
  const misfits = Object.entries(parameterOverrides).flatMap(([name, value]) => {
    const path = ["parameterOverrides", name];
    const read = known[name]?.safeParse(value);
    if (!read) return [{ path, message: `Of ${builtin} these can be fixed: ${Object.keys(known).join(", ")}.` }];
    return read.success ? [] : [{ path, message: read.error.issues[0]?.message ?? "This does not fit." }];
  });
  // Left to the model, it could have any number in the world dialled.
  if (isTransfer(builtin) && parameterOverrides.target === undefined)
    misfits.push({ path: ["parameterOverrides", "target"], message: "Say where to: a number or a SIP URI." });
  return misfits;
}
