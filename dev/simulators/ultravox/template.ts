import { Ajv, type ValidateFunction } from "ajv";
import { type CallRequest, type CallTemplate, Refusal } from "./requests.ts";

const VARIABLE = /\{\{\{?\s{0,20}([#^/&]?)\s{0,20}([\w.]+)\s{0,20}\}?\}\}/g;
const ajv = new Ajv({ strict: false, allErrors: true });
const validators = new WeakMap<object, ValidateFunction>();

type Context = Record<string, unknown>;

/** The schema the provider makes when the template brings none: every variable it names is needed. */
export function deriveContextSchema(template: CallTemplate): Context {
  const names = new Set<string>();
  for (const text of templatedTexts(template)) {
    for (const [, sigil, path = ""] of text.matchAll(VARIABLE)) {
      const root = path.split(".")[0] ?? path;
      // What is under "ultravox" the provider fills in itself; a section may be left out.
      if (root !== "ultravox" && sigil !== "#" && sigil !== "^" && sigil !== "/") names.add(root);
    }
  }
  return { type: "object", properties: Object.fromEntries([...names].map((name) => [name, {}])), required: [...names] };
}

function templatedTexts(template: CallTemplate): string[] {
  const { systemPrompt, languageHint, timeExceededMessage, inactivityMessages = [], selectedTools = [] } = template;
  const texts = [systemPrompt, languageHint, timeExceededMessage, ...inactivityMessages.map((each) => each.message)];
  // Of a tool, descriptions and static values are templates; looking at all of it finds both.
  return [...texts.filter((text) => text !== undefined), ...selectedTools.map((tool) => JSON.stringify(tool))];
}

export function checkContextSchema(schema: Context): void {
  if (!ajv.validateSchema(schema)) throw new Refusal(400, { callTemplate: ["contextSchema: This is no JSON schema."] });
}

function checkContext(schema: Context, context: Context): void {
  const validate = validators.get(schema) ?? ajv.compile(schema);
  validators.set(schema, validate);
  if (validate(context)) return;
  const messages = (validate.errors ?? []).map((error) => `${error.instancePath} ${error.message}`.trim());
  throw new Refusal(400, { templateContext: messages });
}

/** What a call of an agent is asked for, once the agent's template and the caller's wishes are put together. */
export function fillTemplate(template: CallTemplate, overrides: CallRequest, context: Context): CallRequest {
  const { name: _name, created: _created, updated: _updated, contextSchema, ...fields } = template;
  checkContext(contextSchema ?? deriveContextSchema(template), context);
  const fill = <Text extends string | undefined>(text: Text) => (text === undefined ? text : render(text, context));
  return {
    ...fields,
    systemPrompt: fill(fields.systemPrompt),
    languageHint: fill(fields.languageHint),
    timeExceededMessage: fill(fields.timeExceededMessage),
    inactivityMessages: fields.inactivityMessages?.map((each) => ({ ...each, message: fill(each.message) })),
    ...overrides,
  };
}

/** Variables only: the marks of a section are dropped and what they enclose stays. */
function render(text: string, context: Context): string {
  return text.replace(VARIABLE, (_, sigil: string, path: string) => {
    if (sigil !== "" && sigil !== "&") return "";
    const value = path.split(".").reduce<unknown>((from, key) => (isObject(from) ? from[key] : undefined), context);
    if (value === undefined || value === null) return "";
    return typeof value === "object" ? JSON.stringify(value) : String(value);
  });
}

function isObject(value: unknown): value is Context {
  return typeof value === "object" && value !== null;
}
