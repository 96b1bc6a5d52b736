import { Ajv, type ValidateFunction } from "ajv";
import { type CallRequest, type CallTemplate, Refusal } from "./requests.ts";

const VARIABLE = /\{\{\{?\s{0,20}([#^/&]?)\s{0,20}([\w.]+)\s{0,20}\}?\}\}/g;
const ajv = new Ajv({ strict: false, allErrors: true });
const validators = new WeakMap<object, ValidateFunction>();

type Context = Record<string, unknown>;

/** The schema that the provider derives when the template has none: every variable is required. */
export function deriveContextSchema(template: CallTemplate): Context {
  const names = new Set<string>();
  for (const text of templatedTexts(template)) {
    for (const [, sigil, path = ""] of text.matchAll(VARIABLE)) {
      const root = path.split(".")[0] ?? path;
      // The provider fills in everything under "ultravox". A section is optional.
      if (root !== "ultravox" && sigil !== "#" && sigil !== "^" && sigil !== "/") names.add(root);
    }
  }
  return { type: "object", properties: Object.fromEntries([...names].map((name) => [name, {}])), required: [...names] };
}

function templatedTexts(template: CallTemplate): string[] {
  const { systemPrompt, languageHint, timeExceededMessage, inactivityMessages = [], selectedTools = [] } = template;
  const texts = [systemPrompt, languageHint, timeExceededMessage, ...inactivityMessages.map((each) => each.message)];
  // Descriptions and static values of a tool are templates. A search of the whole tool finds both.
  return [...texts.filter((text) => text !== undefined), ...selectedTools.map((tool) => JSON.stringify(tool))];
}

export function checkContextSchema(schema: Context): void {
  if (!ajv.validateSchema(schema))
    throw new Refusal(400, { callTemplate: ["contextSchema: This is not a JSON Schema."] });
}

function checkContext(schema: Context, context: Context): void {
  const validate = validators.get(schema) ?? ajv.compile(schema);
  validators.set(schema, validate);
  if (validate(context)) return;
  const messages = (validate.errors ?? []).map((error) => `${error.instancePath} ${error.message}`.trim());
  throw new Refusal(400, { templateContext: messages });
}

/** The settings of an agent's call: the agent's template merged with the request. */
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

/** Variables only: section marks are removed, their content stays. */
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
