import type { ErrorDetail } from "../core/errors.ts";
import { readLanguage } from "../core/languages.ts";
import { refuseInvalid } from "../core/refuse-invalid.ts";
import { objectionToCallee } from "../core/sip-address.ts";
import { oddMarksIn, render, type Value, type ValueJudge, type Values, variablesIn } from "../core/template-text.ts";
import { objectionToHeaderValue } from "../ports/addresses.ts";
import type { AgentConfig, Variable } from "./config.ts";
import { type AgentUse, type ToolOfAgent, usesOf } from "./templated.ts";

export { oddMarksIn, render, type Values, variablesIn } from "../core/template-text.ts";

const requiredString = (name: string): Variable => ({
  name,
  type: "string",
  required: true,
  default: null,
  description: null,
});

/**
 * The variables of a call of this agent: those that it declares, and, as required strings, the others that its texts and
 * tools use. A saved agent declares all or none, but a tool may use a new variable since then.
 */
export function declaredOf(config: AgentConfig, tools: readonly ToolOfAgent[]): Variable[] {
  const declared = new Set(config.variables.map(({ name }) => name));
  const used = new Set(usesOf(config, tools).flatMap(({ text }) => variablesIn(text)));
  return [...config.variables, ...[...used].filter((name) => !declared.has(name)).map(requiredString)];
}

/** The variables that a call must give. An inbound call gives none. */
export const requiredOf = (config: AgentConfig, tools: readonly ToolOfAgent[]): string[] =>
  declaredOf(config, tools)
    .filter(({ required, default: fallback }) => required && fallback === null)
    .map(({ name }) => name);

/** Every use that is not a valid or declared variable, and every default of the wrong type, by field. */
export function objectionsTo(config: AgentConfig, tools: readonly ToolOfAgent[]): ErrorDetail[] {
  const declared = config.variables.length > 0 ? new Set(config.variables.map(({ name }) => name)) : null;
  const details = usesOf(config, tools).flatMap((use) => [
    ...oddMarksIn(use.text).map((name) => wrongUse(use, name, "is not a variable: a name is letters, digits and `_`.")),
    ...variablesIn(use.text)
      .filter((name) => declared && !declared.has(name))
      .map((name) => wrongUse(use, name, "is not declared in `variables`.")),
  ]);
  for (const [index, variable] of config.variables.entries()) {
    const { type, default: given } = variable;
    if (given === null || typeof given === type) continue;
    details.push({ path: `variables.${index}.default`, message: `The default must be a ${type}, as the variable is.` });
  }
  return details;
}

function wrongUse({ path, tool }: AgentUse, name: string, why: string): ErrorDetail {
  const subject = tool === undefined ? "uses" : `The tool ${tool} uses`;
  return { path, message: `${subject} {{${name}}}, which ${why}` };
}

/**
 * The value of every declared variable for one call: the given value, else the default. An optional variable without a
 * value is an empty string, as at the provider. Throws `input_invalid`.
 */
export function fillVariables(declared: readonly Variable[], given: Readonly<Record<string, unknown>>): Values {
  const known = new Map(declared.map((variable) => [variable.name, variable]));
  const details: ErrorDetail[] = [];
  const wrong = (name: string, message: string) => details.push({ path: `variables.${name}`, message });
  for (const name of Object.keys(given)) {
    if (known.has(name)) continue;
    const names = [...known.keys()].join(", ");
    wrong(
      name,
      names ? `The agent has no such variable. It has ${names}.` : "The agent has no variables. Leave this out.",
    );
  }
  const values: Values = Object.create(null);
  for (const { name, type, required, default: fallback } of declared) {
    const value = (Object.hasOwn(given, name) ? given[name] : undefined) ?? fallback;
    if (value === null || value === undefined) {
      if (required) wrong(name, "The agent needs this variable. Give it a value.");
      else values[name] = "";
    } else if (isValue(value, type)) values[name] = value;
    else wrong(name, `This variable must be a ${type}.`);
  }
  refuseInvalid(details);
  return { ...values };
}

const isValue = (value: unknown, type: Variable["type"]): value is Value =>
  typeof value === type && (typeof value !== "number" || Number.isFinite(value));

const objectionToValue: Record<ValueJudge, (text: string) => string | null> = {
  text: () => null,
  language: (text) => (text === "" ? null : (readLanguage(text).objection ?? null)),
  header: objectionToHeaderValue,
  callee: objectionToCallee,
};

/** Checks the fields whose filled-in text has a format. Throws `input_invalid`, which names the variable. */
export function checkValues(uses: readonly AgentUse[], values: Readonly<Values>): void {
  const details = uses.flatMap(({ text, judge, path, tool }): ErrorDetail[] => {
    const [name] = variablesIn(text);
    const message = name === undefined ? null : objectionToValue[judge](render(text, values));
    if (name === undefined || message === null) return [];
    const place = tool === undefined ? path : `the tool ${tool}`;
    return [{ path: `variables.${name}`, message: `It is used in ${place}. ${message}` }];
  });
  refuseInvalid(details);
}

/** Explains why an agent cannot answer inbound calls: they give no variables. */
export function needsVariables(names: readonly string[]): string {
  const shown = names.slice(0, 5).map((name) => `\`${name}\``);
  const more = names.length > shown.length ? ` and ${names.length - shown.length} more` : "";
  return `The agent needs ${shown.join(", ")}${more}, but inbound calls give no variables. Give each a default, or make it optional.`;
}
