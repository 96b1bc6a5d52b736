import {
  anyJson,
  type Field,
  filledIn,
  listOf,
  objectOf,
  plain,
  text,
  usesIn,
  type Values,
} from "../core/template-text.ts";
import {
  type BuiltinDefinition,
  type ClientDefinition,
  Config,
  type Definition,
  type HttpDefinition,
  isTransfer,
} from "./definition.ts";

/**
 * The fields of a tool that are filled in per call (openapi: ultravox.v1.CallTemplate.selectedTools). A new field of a
 * tool that is missing here does not compile.
 */

type Static = HttpDefinition["staticParameters"][number];
type Described = { description: string; definition: Definition };

const staticParameter: Field<Static> = (parameter, path, visit) => {
  const { value } = parameter;
  if (typeof value !== "string") return parameter;
  return { ...parameter, value: visit(value, `${path}.value`, parameter.in === "header" ? "header" : "text") };
};

const responseFields = { timeoutSeconds: plain, reaction: plain, staticResponse: plain };

const http = objectOf<HttpDefinition>({
  ...responseFields,
  type: plain,
  url: plain,
  method: plain,
  parameters: plain,
  staticParameters: listOf(staticParameter),
  automaticParameters: plain,
  auth: plain,
});

const client = objectOf<ClientDefinition>({ ...responseFields, type: plain, parameters: plain });

const builtin: Field<BuiltinDefinition> = (definition, path, visit) => ({
  ...definition,
  parameterOverrides: builtinOverrides(definition.name)(
    definition.parameterOverrides,
    `${path}.parameterOverrides`,
    visit,
  ),
});

/** The target of a transfer must be a number or a SIP address once its variables are filled in. */
export function builtinOverrides(name: string): Field<Record<string, unknown>> {
  return (overrides, path, visit) =>
    Object.fromEntries(
      Object.entries(overrides).map(([key, value]) => {
        const at = `${path}.${key}`;
        if (key === "target" && isTransfer(name) && typeof value === "string") return [key, visit(value, at, "callee")];
        return [key, anyJson(value, at, visit)];
      }),
    );
}

const definition: Field<Definition> = (value, path, visit) => {
  if (value.type === "http") return http(value, path, visit);
  return value.type === "client" ? client(value, path, visit) : builtin(value, path, visit);
};

export const templatedTool = objectOf<Described>({ description: text(), definition });

/** Reads the templated part of a row. */
export const describedTool = ({ description, config }: { description: string; config: unknown }): Described => ({
  description,
  definition: Config.parse(config).definition,
});

export const usesOfTool = (tool: Described) => usesIn(templatedTool, tool);

/** The tool with all variables filled in, for a call that is placed without the agent. */
export const filledTool = (tool: Described, values: Readonly<Values>): Described =>
  filledIn(templatedTool, tool, values);
