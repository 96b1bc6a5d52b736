import { z } from "zod";
import { isHeaderValue, objectionToHeader } from "../ports/addresses.ts";
import {
  type BuiltinDefinition,
  BuiltinShape,
  builtins,
  type ClientDefinition,
  ClientShape,
  definitionMeta,
  type HttpDefinition,
  HttpShape,
  type In,
  isTransfer,
} from "./definition.ts";
import { objectionToSchema, partsOf, schemaParts } from "./json-schema.ts";
import { objectionToPattern, placeholdersOf } from "./url-pattern.ts";

/** A definition as input. Fields that conflict are reported, each under its own path. */
export const DefinitionInput = z
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
  if (parameters.reduce((sum, { schema }) => sum + partsOf(schema), 0) > schemaParts) {
    const message = `The schemas of a tool hold at most ${schemaParts} objects and lists together. Simplify them.`;
    return [{ path: ["parameters"], message }];
  }
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
