import { ApiError } from "../../routers/core/errors.ts";
import { scanJson } from "./scan.ts";

/** These names reach an object's prototype in code that merges without care, so no input may contain them. */
export const isForbiddenKey = (key: string) => key === "__proto__" || key === "constructor" || key === "prototype";

/** The limits of all JSON input, on both transports, checked before the schema. */
export const jsonLimits = { depth: 64, values: 20_000, names: 1_000, name: 256 } as const;

/** Parses an input. An empty text is an empty object. Throws ApiError for input that no schema should see. */
export function parseJsonObject(text: string, what = "The body"): Record<string, unknown> {
  const found = scanJson(text, jsonLimits);
  if (found) {
    const message = {
      depth: `${what} is nested deeper than ${jsonLimits.depth} levels.`,
      values: `${what} holds more than ${jsonLimits.values} values. Send them in parts.`,
      names: `${what} holds an object with more than ${jsonLimits.names} names.`,
    }[found.problem];
    throw new ApiError("json_invalid", message, { details: [{ path: found.path, message }] });
  }
  const value = text === "" ? {} : parsed(text);
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new ApiError("json_invalid", `${what} must be a JSON object.`);
  }
  inspect(value as Record<string, unknown>, []);
  return value as Record<string, unknown>;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new ApiError("json_invalid");
  }
}

/** Refuses names that reach a prototype or are too long, and numbers that overflow. */
function inspect(value: Record<string, unknown>, path: string[]): void {
  const isArray = Array.isArray(value);
  for (const name of Object.keys(value)) {
    if (!isArray) refuseName(name, path);
    const child = value[name];
    if (child === Number.POSITIVE_INFINITY || child === Number.NEGATIVE_INFINITY) {
      throw ApiError.invalid([...path, name].join("."), "This number is too large.");
    }
    if (typeof child !== "object" || child === null) continue;
    path.push(name);
    inspect(child as Record<string, unknown>, path);
    path.pop();
  }
}

function refuseName(name: string, path: string[]): void {
  if (isForbiddenKey(name)) throw ApiError.invalid([...path, name].join("."), "This name is not allowed.");
  if (name.length > jsonLimits.name) {
    throw ApiError.invalid([...path, name].join("."), `A name may have at most ${jsonLimits.name} characters.`);
  }
}
