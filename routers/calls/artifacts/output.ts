import { type Context, createContext, Script } from "node:vm";
import { Ajv2020, type ErrorObject } from "ajv/dist/2020.js";
import formats from "ajv-formats";
import { shownEndReason } from "../lifecycle/outcome.ts";

/** The data of a call that an agent's output schema may use. */
export type OutputSources = {
  summary: string | null;
  shortSummary: string | null;
  outcome: string | null;
  endReason: string | null;
  durationSeconds: number | null;
  /** In order. The text of a tool call is its arguments as JSON. */
  messages: readonly { role: string; toolName: string | null; text: string }[];
  finalState: Record<string, unknown> | null;
  variables: Record<string, unknown>;
};
export type Problem = { path: string; message: string };
export type Output = { output: Record<string, unknown>; problems: Problem[] };

type Schema = Record<string, unknown>;
type ToolCall = { toolName: string | null; given: Record<string, unknown> };

/**
 * Extracts the output of a call by the agent's output schema and validates it. A property without `x-source` is looked up by
 * name: in the arguments of the last tool call that has it, else in the final state. Invalid properties are left out and
 * listed as problems.
 */
export function extractOutput(schema: Schema, sources: OutputSources): Output {
  const found: Record<string, unknown> = {};
  const calls = toolCalls(sources.messages);
  for (const [name, property] of Object.entries(propertiesOf(schema))) {
    const value = sourced(name, property, sources, calls);
    if (value !== undefined) put(found, name, readAs(property, value));
  }
  const errors = check(schema, found);
  if (typeof errors === "string") return { output: {}, problems: [{ path: "", message: errors }] };
  const broken = new Set(errors.map(({ instancePath }) => namesIn(instancePath)[0]));
  const output = Object.fromEntries(Object.entries(found).filter(([name]) => !broken.has(name)));
  return { output, problems: errors.slice(0, maxProblems).map(problemOf) };
}

function toolCalls(messages: OutputSources["messages"]): ToolCall[] {
  return messages
    .filter(({ role }) => role === "tool_call")
    .flatMap(({ toolName, text }) => {
      const given = record(readOrUndefined(() => JSON.parse(text)));
      return given ? [{ toolName, given }] : [];
    });
}

function sourced(name: string, property: Schema, sources: OutputSources, calls: ToolCall[]): unknown {
  const source = property["x-source"];
  if (typeof source !== "string") {
    const argument = lastArgument(calls, name); // null is a value too
    return argument === undefined ? own(sources.finalState ?? {}, name) : argument;
  }
  const [kind, path] = [source.split(":")[0]!, source.slice(source.indexOf(":") + 1)];
  switch (kind) {
    case "summary":
    case "shortSummary":
    case "outcome":
    case "durationSeconds":
      return sources[kind] ?? undefined;
    case "endReason":
      return shownEndReason(sources.endReason) ?? undefined;
    case "variable":
      return own(sources.variables, path);
    case "status":
      return path.split(".").reduce<unknown>((at, key) => own(record(at) ?? {}, key), sources.finalState ?? {});
    case "tool":
      return argumentOfTool(calls, path);
    default:
      return undefined;
  }
}

/** `path` is `<tool>.<argument>`. Argument names may contain dots, tool names may not (openapi: modelToolName). */
function argumentOfTool(calls: ToolCall[], path: string): unknown {
  const dot = path.indexOf(".");
  const [tool, argument] = [path.slice(0, dot), path.slice(dot + 1)];
  return lastArgument(
    calls.filter(({ toolName }) => toolName === tool),
    argument,
  );
}

const lastArgument = (calls: ToolCall[], name: string): unknown => {
  const last = calls.findLast(({ given }) => Object.hasOwn(given, name));
  return last && own(last.given, name);
};

/** Models write numbers and booleans as text. They are converted where the schema wants them; nothing else is. */
function readAs(schema: Schema, value: unknown): unknown {
  if (typeof value === "string") return readText([schema.type].flat(), value);
  if (Array.isArray(value)) {
    const items = record(schema.items);
    return items ? value.map((item) => readAs(items, item)) : value;
  }
  const fields = record(value);
  if (!fields) return value;
  const read: Record<string, unknown> = {};
  const properties = propertiesOf(schema);
  for (const [name, inner] of Object.entries(fields)) put(read, name, readAs(own(properties, name) ?? {}, inner));
  return read;
}

function readText(types: unknown[], text: string): unknown {
  if (types.includes("string")) return text;
  const trimmed = text.trim();
  if (types.includes("boolean") && /^(true|false)$/i.test(trimmed)) return trimmed.toLowerCase() === "true";
  const isNumber = types.includes("number") || types.includes("integer");
  return isNumber && /^-?(0|[1-9]\d{0,14})(\.\d{1,15})?$/.test(trimmed) ? Number(trimmed) : text;
}

type Validate = ((value: unknown) => boolean) & { errors?: ErrorObject[] | null };
/** The compiled schema, null if it cannot be compiled, and how long a check may take. */
type Checker = { validate: Validate | null; timeoutMs: number };

const maxCheckers = 200;
const checkers = new Map<string, Checker>();

/**
 * The client wrote the schema and its patterns. A pattern that never terminates must not block the process, so each check has
 * a timeout, and a shorter one after the schema has timed out once.
 */
const checkTimeoutMs = 100;
const reducedCheckTimeoutMs = 10;
/** Schemas are small, and compiling does not run their patterns. */
const compileTimeoutMs = 1_000;
const sandbox: Context = createContext({ act: null });
const act = new Script("act()");

/** The validation errors, or a message if the schema itself cannot be used. */
function check(schema: Schema, value: unknown): ErrorObject[] | string {
  const checker = checkerOf(schema);
  const { validate } = checker;
  if (!validate) return "The output schema is not valid. Correct the `outputSchema` of the agent.";
  try {
    return timed(checker.timeoutMs, () => validate(value)) ? [] : (validate.errors ?? []);
  } catch (error) {
    if (!isTimeout(error)) return "The output schema is not valid. Correct the `outputSchema` of the agent.";
    checker.timeoutMs = reducedCheckTimeoutMs;
    return "The output schema takes too long to check. Simplify its patterns.";
  }
}

/** Compiled once per schema. Each has a separate compiler: a shared one keeps every schema forever. */
function checkerOf(schema: Schema): Checker {
  const key = JSON.stringify(schema);
  const checker = checkers.get(key) ?? { validate: compile(schema), timeoutMs: checkTimeoutMs };
  checkers.delete(key);
  checkers.set(key, checker);
  for (const oldest of checkers.keys()) {
    if (checkers.size <= maxCheckers) break;
    checkers.delete(oldest);
  }
  return checker;
}

function compile(schema: Schema): Validate | null {
  try {
    return timed(compileTimeoutMs, () => formats.default(new Ajv2020(ajvOptions)).compile(schema));
  } catch {
    return null;
  }
}

const ajvOptions = { allErrors: true, strict: false, validateSchema: false, logger: false } as const;

/** Tries a second time if the process got less than half of the CPU time, since the machine was busy with other work. */
function timed<T>(withinMs: number, work: () => T): T {
  const before = process.cpuUsage();
  try {
    return timedOnce(withinMs, work);
  } catch (error) {
    const { user, system } = process.cpuUsage(before);
    if (isTimeout(error) && (user + system) / 1000 < withinMs / 2) return timedOnce(withinMs, work);
    throw error;
  }
}

// An error from the vm context is no instance of this realm's Error.
const isTimeout = (error: unknown) => (error as { code?: unknown } | null)?.code === "ERR_SCRIPT_EXECUTION_TIMEOUT";

function timedOnce<T>(withinMs: number, work: () => T): T {
  let result: { value: T } | undefined;
  sandbox.act = () => {
    result = { value: work() };
  };
  try {
    act.runInContext(sandbox, { timeout: withinMs });
  } finally {
    sandbox.act = null;
  }
  if (!result) throw new Error("The script ended without a result.");
  return result.value;
}

const maxProblems = 50;

function problemOf({ instancePath, keyword, params }: ErrorObject): Problem {
  const names = namesIn(instancePath);
  if (keyword === "required" || keyword === "dependentRequired") {
    return { path: [...names, String(params.missingProperty)].join("."), message: "The field is missing." };
  }
  return { path: names.join("."), message: messageOf(keyword, params) };
}

/** Our own messages for the keywords that occur often; the validator's texts are not shown. */
function messageOf(keyword: string, params: Record<string, unknown>): string {
  switch (keyword) {
    case "type":
      return `Must be of the type ${[params.type].flat().join(" or ")}.`;
    case "format":
      return `Must have the format ${params.format}.`;
    case "enum":
      return "Must be one of the allowed values.";
    case "const":
      return "Must be the allowed value.";
    case "pattern":
      return "Must match the pattern.";
    case "minLength":
    case "maxLength":
      return `Must have at ${keyword === "minLength" ? "least" : "most"} ${params.limit} characters.`;
    case "minItems":
    case "maxItems":
      return `Must have at ${keyword === "minItems" ? "least" : "most"} ${params.limit} items.`;
    case "minimum":
    case "maximum":
    case "exclusiveMinimum":
    case "exclusiveMaximum":
      return `Must be ${params.comparison} ${params.limit}.`;
    case "additionalProperties":
      return `The field ${params.additionalProperty} is not allowed.`;
    default:
      return `Does not match \`${keyword}\` of the schema.`;
  }
}

const namesIn = (pointer: string) => pointer.split("/").slice(1).map(unescaped);
const unescaped = (pointer: string) => pointer.replaceAll("~1", "/").replaceAll("~0", "~");

const propertiesOf = (schema: Schema): Record<string, Schema> =>
  Object.fromEntries(
    Object.entries(record(schema.properties) ?? {}).map(([name, property]) => [name, record(property) ?? {}]),
  );

const record = (value: unknown): Record<string, unknown> | undefined =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined;

const own = <V>(fields: Record<string, V>, name: string): V | undefined =>
  Object.hasOwn(fields, name) ? fields[name] : undefined;

/** Defines instead of assigns: a field may be named `__proto__`. */
const put = (fields: Record<string, unknown>, name: string, value: unknown) =>
  Object.defineProperty(fields, name, { value, enumerable: true, writable: true, configurable: true });

function readOrUndefined<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
