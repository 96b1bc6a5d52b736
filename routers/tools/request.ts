import type { ErrorDetail } from "../core/errors.ts";
import { isHeaderValue } from "../ports/addresses.ts";
import type { AutomaticValue, HttpDefinition } from "./definition.ts";
import { patternDeadline, problemsWith } from "./json-schema.ts";
import type { TestTool } from "./schema.ts";
import { tokenOf } from "./upstream.ts";
import { fill, isDotSegment, segmentWith } from "./url-pattern.ts";

/** A request to a tool, as the voice provider would send it. */
export type ToolRequest = { method: string; url: string; headers: Record<string, string>; body?: string };

type Given = TestTool["parameters"];
type Samples = TestTool["samples"];
type Placed = { name: string; in: "path" | "query" | "header" | "body"; value: unknown };

/** The problems of the values that the model would give, by the name of the parameter. */
export function objectionsTo({ parameters, staticParameters, url }: HttpDefinition, given: Given): ErrorDetail[] {
  const known = new Map(parameters.map((parameter) => [parameter.name, parameter]));
  const unknown = Object.keys(given).filter((name) => !known.has(name));
  const deadline = patternDeadline();
  const fixed = staticParameters.map(({ name, value }) => [name, asText(value)] as const);
  const texts = new Map([...fixed, ...Object.entries(given).map(([name, value]) => [name, asText(value)] as const)]);
  const wrong = [...known.values()].flatMap(({ name, schema, required, in: place }): ErrorDetail[] => {
    const path = `parameters.${name}`;
    if (!Object.hasOwn(given, name))
      return required ? [{ path, message: "The tool needs this parameter. Give it a value." }] : [];
    const value = given[name];
    const problems = problemsWith(schema, value, deadline);
    if (problems.length > 0) return problems.map((one) => ({ path: path + one.path, message: one.message }));
    const text = asText(value);
    if (place === "path" && isDotSegment(fill(segmentWith(name, url), texts)))
      return [{ path, message: 'A value in the path must not be empty, nor make its segment "." or "..".' }];
    if (place === "header" && !isHeaderValue(text))
      return [{ path, message: "A header cannot contain these characters. Remove them." }];
    return [];
  });
  return [
    ...unknown.map((name) => ({
      path: `parameters.${name}`,
      message: "The tool has no such parameter. Leave it out.",
    })),
    ...wrong,
  ];
}

/** Builds the request. `secret` is plain text, and the result contains it. */
export function requestOf(http: HttpDefinition, given: Given, samples: Samples, secret: string | null): ToolRequest {
  const placed = placedOf(http, given, samples);
  const at = (place: Placed["in"]) => placed.filter((one) => one.in === place);
  const url = new URL(fill(http.url, new Map(at("path").map(({ name, value }) => [name, asText(value)]))));
  for (const { name, value } of at("query")) url.searchParams.append(name, asText(value));
  const headers = Object.fromEntries(at("header").map(({ name, value }) => [name.toLowerCase(), asText(value)]));
  const body = Object.fromEntries(at("body").map(({ name, value }) => [name, value]));
  const request: ToolRequest = { method: http.method, url: url.href, headers };
  if (Object.keys(body).length > 0) {
    request.body = JSON.stringify(body);
    headers["content-type"] ??= "application/json";
  }
  return secret === null ? request : withCredential(request, http, secret);
}

function placedOf(
  { parameters, staticParameters, automaticParameters }: HttpDefinition,
  given: Given,
  samples: Samples,
) {
  const dynamic = parameters.filter(({ name }) => Object.hasOwn(given, name));
  return [
    ...dynamic.map(({ name, in: place }): Placed => ({ name, in: place, value: given[name] })),
    ...staticParameters.map(({ name, in: place, value }): Placed => ({ name, in: place, value })),
    ...automaticParameters.map(({ name, in: place, value }): Placed => {
      return { name, in: place, value: sampleOf(value, samples) };
    }),
  ];
}

const sampleId = "00000000-0000-4000-8000-000000000000";

/** An example of the value that the provider fills in. A test has no call to take it from. */
function sampleOf(value: AutomaticValue, { callId = sampleId, callState = {}, callMetadata = {} }: Samples): unknown {
  const samples: Record<AutomaticValue, unknown> = {
    call_id: callId,
    conversation_history: [{ role: "MESSAGE_ROLE_USER", text: "Hello?" }],
    call_state: callState,
    call_stage_id: sampleId,
    output_sample_rate: 24_000,
    call_metadata: callMetadata,
  };
  return samples[value];
}

/** Adds the credential where the definition puts it. */
function withCredential(request: ToolRequest, { auth }: HttpDefinition, secret: string): ToolRequest {
  if (!auth) return request;
  const token = tokenOf(auth, secret);
  if (auth.type === "query") {
    const url = new URL(request.url);
    url.searchParams.append(auth.name, token);
    return { ...request, url: url.href };
  }
  const header =
    auth.type === "header"
      ? { [auth.name.toLowerCase()]: token }
      : { authorization: `${auth.type === "bearer" ? "Bearer" : "Basic"} ${token}` };
  return { ...request, headers: { ...request.headers, ...header } };
}

const asText = (value: unknown) => (typeof value === "string" ? value : JSON.stringify(value));
