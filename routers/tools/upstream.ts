import type { ToolDefinition } from "../ports/ultravox.ts";
import {
  type AutomaticValue,
  type ClientDefinition,
  Config,
  type Definition,
  type HttpDefinition,
} from "./definition.ts";

/** Converts a tool to the provider's format (openapi: ultravox.v1.BaseToolDefinition). */

type Described = { name: string; description: string; definition: Definition };
type Auth = NonNullable<HttpDefinition["auth"]>;

const locations = {
  path: "PARAMETER_LOCATION_PATH",
  query: "PARAMETER_LOCATION_QUERY",
  header: "PARAMETER_LOCATION_HEADER",
  body: "PARAMETER_LOCATION_BODY",
} as const;
const knownValues = {
  call_id: "KNOWN_PARAM_CALL_ID",
  conversation_history: "KNOWN_PARAM_CONVERSATION_HISTORY",
  call_state: "KNOWN_PARAM_CALL_STATE",
  call_stage_id: "KNOWN_PARAM_CALL_STAGE_ID",
  output_sample_rate: "KNOWN_PARAM_OUTPUT_SAMPLE_RATE",
  call_metadata: "KNOWN_PARAM_CALL_METADATA",
} as const satisfies Record<AutomaticValue, string>;
const reactions = {
  speaks: "AGENT_REACTION_SPEAKS",
  listens: "AGENT_REACTION_LISTENS",
  speaks_once: "AGENT_REACTION_SPEAKS_ONCE",
} as const;

/** The name of the requirementName for a tool's secret. Each agent that uses the tool supplies it. */
const requirementName = "auth";

/** The whole definition, which a change sends again; null for a built-in tool. It contains no secret. */
export function toolDefinition({ name, description, definition }: Described): ToolDefinition | null {
  if (definition.type === "builtin") return null;
  const { timeoutSeconds, reaction, staticResponse } = definition;
  return {
    modelToolName: name,
    description,
    ...(definition.type === "http" ? httpOf(definition) : clientOf(definition)),
    timeout: `${timeoutSeconds}s`,
    defaultReaction: reactions[reaction],
    staticResponse: staticResponse === null ? undefined : { responseText: staticResponse },
  };
}

function httpOf(http: HttpDefinition) {
  const requirements = requirementsOf(http);
  return {
    dynamicParameters: http.parameters.map((parameter) => dynamic(parameter, parameter.in)),
    staticParameters: http.staticParameters.map(({ name, in: place, value }) => {
      return { name, location: locations[place], value };
    }),
    automaticParameters: http.automaticParameters.map(({ name, in: place, value }) => {
      return { name, location: locations[place], knownValue: knownValues[value] };
    }),
    requirements: requirements ?? undefined,
    http: { baseUrlPattern: http.url, httpMethod: http.method },
  };
}

const clientOf = ({ parameters }: ClientDefinition) => ({
  dynamicParameters: parameters.map((parameter) => dynamic(parameter, "body")),
  client: {},
});

type ModelParameter = ClientDefinition["parameters"][number];

/** The provider has a parameter's description inside its schema. */
function dynamic({ name, description, schema, required }: ModelParameter, place: keyof typeof locations) {
  const described = description ? { ...schema, description } : schema;
  return { name, location: locations[place], schema: described, required };
}

/** The secret that a call must supply to use the tool. This has only the secret's place, not its value. */
export function requirementsOf(definition: Definition) {
  if (definition.type !== "http" || !definition.auth) return null;
  return { httpSecurityOptions: { options: [{ requirements: { [requirementName]: placeOf(definition.auth) } }] } };
}

function placeOf(auth: Auth) {
  if (auth.type === "header") return { headerApiKey: { name: auth.name } };
  if (auth.type === "query") return { queryApiKey: { name: auth.name } };
  return { httpAuth: { scheme: auth.type === "bearer" ? "Bearer" : "Basic" } };
}

/** The provider name of the stored credential that the tool sends; null if it sends none. */
export const credentialOf = (definition: Definition) =>
  definition.type === "http" ? (definition.auth?.credential ?? null) : null;

/** The secret as a request has it, after the scheme. */
export const tokenOf = (auth: Auth, secret: string) =>
  auth.type === "basic" ? Buffer.from(secret).toString("base64") : secret;

/**
 * The secrets that each agent with this tool supplies, from a row's config. `openSecret` returns the plain value of a
 * stored credential by its name `custom-<name>`. Returns undefined for a tool without a credential.
 */
export function authTokensOf(
  config: unknown,
  openSecret: (credential: string) => string,
): Record<string, string> | undefined {
  const { definition } = Config.parse(config);
  if (definition.type !== "http" || !definition.auth) return undefined;
  return { [requirementName]: tokenOf(definition.auth, openSecret(definition.auth.credential)) };
}
