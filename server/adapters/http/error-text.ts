import { maskSecrets, secretForms } from "../../../routers/core/mask-secrets.ts";

const maxLength = 300;

/** The message in a provider's error body: `detail`, or the first field with its message, or short plain text. */
export function errorTextOf(bytes: Buffer): string {
  const text = bytes.toString("utf8").trim();
  try {
    return firstMessage(JSON.parse(text), []);
  } catch {
    return text.startsWith("<") ? "" : text;
  }
}

function firstMessage(value: unknown, path: string[]): string {
  if (typeof value === "string") return [...path, value].join(": ");
  if (typeof value !== "object" || value === null) return "";
  if (Array.isArray(value)) return value.map((item) => firstMessage(item, path)).find(Boolean) ?? "";
  for (const [key, inner] of Object.entries(value)) {
    const isHeading = ["detail", "error", "message", "non_field_errors"].includes(key);
    const found = firstMessage(inner, isHeading ? path : [...path, key]);
    if (found) return found;
  }
  return "";
}

/** The text on one line, shortened, with the secrets masked. */
export function withoutSecrets(text: string, secrets: readonly string[] = []): string {
  const forms = new Set(secrets.filter(Boolean).flatMap(secretForms));
  const longestFirst = [...forms].toSorted((a, b) => b.length - a.length);
  const line = maskSecrets(text, longestFirst).replace(/\s+/g, " ");
  return line.length > maxLength ? `${line.slice(0, maxLength - 1)}…` : line;
}
