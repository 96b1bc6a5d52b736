import { Fault, type FaultDetail } from "../fault.ts";
import type { AgentConfig, Variable } from "./config.ts";

/** The `{{variables}}` of an agent's texts. The provider fills them in, as mustache without its sections. */

export const variableName = /^[A-Za-z_][A-Za-z0-9_]{0,63}$/;

export type Value = string | number | boolean;
export type Values = Record<string, Value>;

/** What the provider fills in by itself, of the line that the call came in by. */
const providersOwn = /^ultravox(\.|$)/;

/** Blanks are cut off afterwards: a pattern that looks for them too goes over a long run of blanks without end. */
const marks = /\{\{\{([^{}]*)\}\}\}|\{\{([^{}]*)\}\}/g;

const nameOf = (triple: string | undefined, double: string | undefined) =>
  (triple ?? double?.trimStart().replace(/^&/, "") ?? "").trim();

function namesIn(text: string): string[] {
  const names = Array.from(text.matchAll(marks), ([, triple, double]) => nameOf(triple, double));
  return [...new Set(names)].filter((name) => !providersOwn.test(name));
}

/** The variables that a text uses, each once, in order. */
export const variablesIn = (text: string): string[] => namesIn(text).filter((name) => variableName.test(name));

/** What stands in double braces and is no variable: the provider would make nothing of it, or something else. */
export const oddMarksIn = (text: string): string[] => namesIn(text).filter((name) => !variableName.test(name));

/** Every text of a config that is filled per call, with the path of its field. */
export function* templatedTexts(config: AgentConfig): Generator<[path: string, text: string]> {
  yield ["systemPrompt", config.systemPrompt];
  if (config.greeting !== null) yield ["greeting", config.greeting];
  if (config.languageHint !== null) yield ["languageHint", config.languageHint];
  if (config.timeExceededMessage !== null) yield ["timeExceededMessage", config.timeExceededMessage];
  if (config.voicemail.message !== null) yield ["voicemail.message", config.voicemail.message];
  for (const [n, { message }] of config.inactivityMessages.entries())
    yield [`inactivityMessages.${n}.message`, message];
  for (const [n, { description }] of config.transferTargets.entries()) {
    yield [`transferTargets.${n}.description`, description];
  }
  for (const [n, { description, parameterOverrides }] of config.tools.entries()) {
    if (description !== null) yield [`tools.${n}.description`, description];
    yield* textsIn(parameterOverrides, `tools.${n}.parameterOverrides`);
  }
}

function* textsIn(value: unknown, path: string): Generator<[string, string]> {
  if (typeof value === "string") yield [path, value];
  else if (typeof value === "object" && value !== null) {
    for (const [key, inner] of Object.entries(value)) yield* textsIn(inner, `${path}.${key}`);
  }
}

/** What a call of this agent may be given. An agent that declares nothing needs what its texts use, as texts. */
export function declaredOf(config: AgentConfig): Variable[] {
  if (config.variables.length > 0) return config.variables;
  const used = new Set([...templatedTexts(config)].flatMap(([, text]) => variablesIn(text)));
  return [...used].map((name) => ({ name, type: "string", required: true, default: null, description: null }));
}

/** Every use that is no variable, or none of those declared, and every default of another type; by field. */
export function objectionsTo(config: AgentConfig): FaultDetail[] {
  const declared = new Set(declaredOf(config).map(({ name }) => name));
  const details: FaultDetail[] = [];
  for (const [path, text] of templatedTexts(config)) {
    for (const name of oddMarksIn(text)) {
      details.push({ path, message: `uses {{${name}}}, which is no variable: a name is letters, digits and \`_\`.` });
    }
    for (const name of variablesIn(text)) {
      if (!declared.has(name))
        details.push({ path, message: `uses {{${name}}}, which is not declared in \`variables\`.` });
    }
  }
  for (const [index, variable] of config.variables.entries()) {
    const { type, default: given } = variable;
    if (given === null || typeof given === type) continue;
    details.push({ path: `variables.${index}.default`, message: `This is no ${type}, which the variable is.` });
  }
  return details;
}

/**
 * The value of every variable that is declared, for one call: what it was given, else the default. One that is not needed
 * and not given is an empty text, which is what the provider makes of nothing. Throws Fault `invalid_input`.
 */
export function fillVariables(declared: readonly Variable[], given: Readonly<Record<string, unknown>>): Values {
  const known = new Map(declared.map((variable) => [variable.name, variable]));
  const details: FaultDetail[] = [];
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
  if (first) throw new Fault("invalid_input", `${first.path}: ${first.message}`, { details });
  return { ...values };
}

const isValue = (value: unknown, type: Variable["type"]): value is Value =>
  typeof value === type && (typeof value !== "number" || Number.isFinite(value));

/** The text with its variables filled in, once: what a value itself holds is text. Of a name without a value nothing is left. */
export function render(text: string, values: Readonly<Values>): string {
  return text.replace(marks, (_, triple: string | undefined, double: string | undefined) => {
    const name = nameOf(triple, double);
    return Object.hasOwn(values, name) ? String(values[name]) : "";
  });
}
