import { Fault, type FaultDetail } from "../routers/fault.ts";
import { isForbiddenKey } from "./rest-query.ts";

/** What any JSON may be that comes in, on both transports, before a schema looks at it. */
export const jsonLimits = { depth: 64, values: 50_000, name: 256 } as const;

/** Parses the text of an input. An empty text is an empty object. Throws Fault for what no schema should have to see. */
export function parseJsonObject(text: string, what = "The body"): Record<string, unknown> {
  const value = text === "" ? {} : parsed(text);
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new Fault("invalid_json", `${what} must be a JSON object.`);
  }
  inspect(value, { what, path: [], left: jsonLimits.values });
  return value as Record<string, unknown>;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new Fault("invalid_json");
  }
}

type Walk = { what: string; path: string[]; left: number };

/** Refuses names that reach a prototype, nesting that exhausts a stack, and more values than any request has use for. */
function inspect(value: object, walk: Walk): void {
  const { path, what } = walk;
  if (path.length >= jsonLimits.depth) {
    throw new Fault("invalid_json", `${what} is nested deeper than ${jsonLimits.depth} levels.`, {
      details: [{ path: path.join("."), message: `At most ${jsonLimits.depth} levels.` }],
    });
  }
  const isArray = Array.isArray(value);
  for (const [name, child] of Object.entries(value)) {
    walk.left -= 1;
    if (walk.left < 0) {
      throw new Fault("invalid_json", `${what} holds more than ${jsonLimits.values} values. Send it in parts.`);
    }
    if (!isArray) refuseName(name, path);
    if (child === Number.POSITIVE_INFINITY || child === Number.NEGATIVE_INFINITY) {
      throw refusal([...path, name], "This number is too large.");
    }
    if (typeof child !== "object" || child === null) continue;
    path.push(name);
    inspect(child, walk);
    path.pop();
  }
}

function refuseName(name: string, path: string[]): void {
  if (isForbiddenKey(name)) throw refusal([...path, name], "This name is not allowed.");
  if (name.length > jsonLimits.name) {
    throw refusal([...path, name], `A name has at most ${jsonLimits.name} characters.`);
  }
}

function refusal(at: string[], message: string): Fault {
  const details: FaultDetail[] = [{ path: at.join("."), message }];
  return new Fault("invalid_input", `${details[0]!.path}: ${message}`, { details });
}
