import { ApiError, type ErrorDetail } from "../core/errors.ts";
import { readLanguage } from "../core/languages.ts";
import { objectionToCallee } from "../core/sip-address.ts";
import { oddMarksIn, render, type Value, type ValueJudge, type Values, variablesIn } from "../core/template-text.ts";
import { objectionToHeaderValue } from "../ports/addresses.ts";
import type { AgentConfig, Variable } from "./config.ts";
import { type AgentUse, type ToolOfAgent, usesOf } from "./templated.ts";

export { oddMarksIn, render, type Value, type Values, variableName, variablesIn } from "../core/template-text.ts";

const needed = (name: string): Variable => ({ name, type: "string", required: true, default: null, description: null });

/**
 * What a call of this agent may be given: what it declares, and, as required texts, what its texts and tools use besides.
 * An agent that is saved declares all or nothing, but a tool may have come to use another since.
 */
export function declaredOf(config: AgentConfig, tools: readonly ToolOfAgent[]): Variable[] {
  const declared = new Set(config.variables.map(({ name }) => name));
  const used = new Set(usesOf(config, tools).flatMap(({ text }) => variablesIn(text)));
  return [...config.variables, ...[...used].filter((name) => !declared.has(name)).map(needed)];
}

/** What a call must be given: a call that comes in brings nothing. */
export const requiredOf = (config: AgentConfig, tools: readonly ToolOfAgent[]): string[] =>
  declaredOf(config, tools)
    .filter(({ required, default: instead }) => required && instead === null)
    .map(({ name }) => name);

/** Every use that is no variable, or none of those declared, and every default of another type; by field. */
export function objectionsTo(config: AgentConfig, tools: readonly ToolOfAgent[]): ErrorDetail[] {
  const declared = config.variables.length > 0 ? new Set(config.variables.map(({ name }) => name)) : null;
  const details = usesOf(config, tools).flatMap((use) => [
    ...oddMarksIn(use.text).map((name) => wrongUse(use, name, "is no variable: a name is letters, digits and `_`.")),
    ...variablesIn(use.text)
      .filter((name) => declared && !declared.has(name))
      .map((name) => wrongUse(use, name, "is not declared in `variables`.")),
  ]);
  for (const [index, variable] of config.variables.entries()) {
    const { type, default: given } = variable;
    if (given === null || typeof given === type) continue;
    details.push({ path: `variables.${index}.default`, message: `This is no ${type}, which the variable is.` });
  }
  return details;
}

function wrongUse({ path, tool }: AgentUse, name: string, why: string): ErrorDetail {
  const user = tool === undefined ? "uses" : `The tool ${tool} uses`;
  return { path, message: `${user} {{${name}}}, which ${why}` };
}

/**
 * The value of every variable that is declared, for one call: what it was given, else the default. One that is not needed
 * and not given is an empty text, which is what the provider makes of nothing. Throws Fault `input_invalid`.
 */
export function fillVariables(declared: readonly Variable[], given: Readonly<Record<string, unknown>>): Values {
  const known = new Map(declared.map((variable) => [variable.name, variable]));
  const details: ErrorDetail[] = [];
  const wrong = (name: string, message: string) => details.push({ path: `variables.${name}`, message });
  for (const name of Object.keys(given)) {
    if (known.has(name)) continue;
    const names = [...known.keys()].join(", ");
    wrong(name, names ? `The agent has no such variable; it has ${names}.` : "The agent has no variables.");
  }
  const values: Values = Object.create(null);
  for (const { name, type, required, default: instead } of declared) {
    const value = (Object.hasOwn(given, name) ? given[name] : undefined) ?? instead;
    if (value === null || value === undefined) {
      if (required) wrong(name, "The agent needs this variable.");
      else values[name] = "";
    } else if (isValue(value, type)) values[name] = value;
    else wrong(name, `This variable is a ${type}.`);
  }
  const [first] = details;
  if (first) throw new ApiError("input_invalid", `${first.path}: ${first.message}`, { details });
  return { ...values };
}

const isValue = (value: unknown, type: Variable["type"]): value is Value =>
  typeof value === type && (typeof value !== "number" || Number.isFinite(value));

const judges: Record<ValueJudge, (text: string) => string | null> = {
  text: () => null,
  language: (text) => (text === "" ? null : (readLanguage(text).objection ?? null)),
  header: objectionToHeaderValue,
  callee: objectionToCallee,
};

/** What a value makes of a field that cannot hold every text. Throws Fault `input_invalid`, which names the variable. */
export function judgeValues(uses: readonly AgentUse[], values: Readonly<Values>): void {
  const details = uses.flatMap(({ text, judge, path, tool }): ErrorDetail[] => {
    const [name] = variablesIn(text);
    const message = name === undefined ? null : judges[judge](render(text, values));
    if (name === undefined || message === null) return [];
    const place = tool === undefined ? path : `the tool ${tool}`;
    return [{ path: `variables.${name}`, message: `It is used in ${place}: ${message}` }];
  });
  const [first] = details;
  if (first) throw new ApiError("input_invalid", `${first.path}: ${first.message}`, { details });
}

/** Why an agent cannot answer: a call that comes in brings no values. */
export function needsVariables(names: readonly string[]): string {
  const shown = names.slice(0, 5).map((name) => `\`${name}\``);
  const more = names.length > shown.length ? ` and ${names.length - shown.length} more` : "";
  return `The agent needs ${shown.join(", ")}${more}, and a call that comes in brings no values. Give each a default, or make it not required.`;
}
