import type { ErrorDetail } from "../core/errors.ts";
import { isHeaderValue } from "../ports/addresses.ts";
import type { AutomaticValue, HttpDefinition } from "./definition.ts";
import { patience, problemsWith } from "./json-schema.ts";
import type { TestTool } from "./schema.ts";
import { tokenOf } from "./upstream.ts";
import { fill, isStep, placeholdersOf } from "./url-pattern.ts";

/** A request of a tool, as the voice provider would make it. */
export type ToolRequest = { method: string; url: string; headers: Record<string, string>; body?: string };

type Given = TestTool["parameters"];
type Samples = TestTool["samples"];
type Placed = { name: string; in: "path" | "query" | "header" | "body"; value: unknown };

/** What is wrong with the values that the model would give, each by the name of its parameter. */
export function objectionsTo({ parameters, url }: HttpDefinition, given: Given): ErrorDetail[] {
  const known = new Map(parameters.map((parameter) => [parameter.name, parameter]));
  const strange = Object.keys(given).filter((name) => !known.has(name));
  const until = patience();
  const wrong = [...known.values()].flatMap(({ name, schema, required, in: place }): ErrorDetail[] => {
    const path = `parameters.${name}`;
    if (!Object.hasOwn(given, name)) return required ? [{ path, message: "The tool needs this parameter." }] : [];
    const value = given[name];
    const problems = problemsWith(schema, value, until);
    if (problems.length > 0) return problems.map((one) => ({ path: path + one.path, message: one.message }));
    const text = asText(value);
    if (place === "path" && placeholdersOf(url).includes(name) && isStep(text))
      return [{ path, message: 'In a path it must not be empty, "." or "..".' }];
    if (place === "header" && !isHeaderValue(text))
      return [{ path, message: "A header cannot hold these characters." }];
    return [];
  });
  return [
    ...strange.map((name) => ({ path: `parameters.${name}`, message: "The tool has no such parameter." })),
    ...wrong,
  ];
}

/** Puts everything in its place. `secret` is open, and stands in what is returned. */
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
  return secret === null ? request : shown(request, http, secret);
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

/** Something of the kind that the provider fills in; there is no call to take it from. */
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

/** Shows who asks, in the place that the definition says. */
function shown(request: ToolRequest, { auth }: HttpDefinition, secret: string): ToolRequest {
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
