/** Field names of secrets. `username` is one of them: with the password it gives access to a SIP trunk. */
const secretName = /secret|passw(or)?d|token|authorization|credential|api[_-]?key|^(sip_?)?(auth_?user|user_?name)$/i;
/** Every value below these fields is secret. */
const secretBranch = /^headers$|secret|authtokens/i;
/** A text with none of these has no such field, so it need not be parsed. `\u`: an escape may hide any name. */
const mayHoldSecret = /secret|passw|token|authorization|credential|api[_-]?key|user|headers|\\u/i;
const minLengthElsewhere = 6;
const redacted = "[redacted]";

/**
 * Masks secrets in a webhook body before it is stored: providers echo secrets that they were sent. Masks fields by name, and
 * the same values in other fields. A body without secrets is returned unchanged, byte for byte.
 */
export function withoutSecrets(body: Buffer): Buffer {
  const text = body.toString("utf8");
  if (!/^\s*[[{]/.test(text)) return fromForm(body, text);
  if (!mayHoldSecret.test(text)) return body;
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return body;
  }
  const found = new Set<string>();
  collect(parsed, false, found);
  if (found.size === 0) return body;
  return Buffer.from(JSON.stringify(replaced(parsed, false, elsewhere(found))));
}

function collect(value: unknown, isSecret: boolean, found: Set<string>): void {
  if (typeof value === "string" && isSecret && value !== "" && value !== redacted) found.add(value);
  if (typeof value !== "object" || value === null) return;
  for (const [name, inner] of Object.entries(value)) collect(inner, isBelow(value, name, isSecret), found);
}

/** Keeps the shape, so that the body can still be parsed and applied again. */
function replaced(value: unknown, isSecret: boolean, known: readonly string[]): unknown {
  if (typeof value === "string") {
    if (isSecret) return value === "" ? value : redacted;
    return known.reduce((text, secret) => text.replaceAll(secret, redacted), value);
  }
  if (Array.isArray(value)) return value.map((inner) => replaced(inner, isSecret, known));
  if (typeof value !== "object" || value === null) return value;
  const fields = Object.entries(value);
  return Object.fromEntries(
    fields.map(([name, inner]) => [name, replaced(inner, isBelow(value, name, isSecret), known)]),
  );
}

/** A text is secret by its own name; an object or list, by a name that covers everything below it. */
function isBelow(parent: object, name: string, isSecret: boolean): boolean {
  if (isSecret || Array.isArray(parent)) return isSecret;
  const inner = (parent as Record<string, unknown>)[name];
  return typeof inner === "object" ? secretBranch.test(name) : secretName.test(name);
}

/** A short value would also match parts of ordinary words. */
const elsewhere = (found: ReadonlySet<string>) => [...found].filter(({ length }) => length >= minLengthElsewhere);

function fromForm(body: Buffer, text: string): Buffer {
  if (!/^[\w.%[\]-]+=/.test(text)) return body;
  const form = new URLSearchParams(text);
  const secrets = [...form.keys()].filter((name) => secretName.test(name) && form.get(name) !== "");
  if (secrets.length === 0) return body;
  for (const name of secrets) form.set(name, redacted);
  return Buffer.from(form.toString());
}
