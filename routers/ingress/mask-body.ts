/** A name that promises a secret. `username` is among them: a SIP trunk's opens it together with the password. */
const secretName = /secret|passw(or)?d|token|authorization|credential|api[_-]?key|^(sip_?)?(auth_?user|user_?name)$/i;
/** Below these everything is secret, whatever its name. */
const secretBranch = /^headers$|secret|authtokens/i;
const shortestElsewhere = 6;
const cut = "[redacted]";

/**
 * A webhook's body as it may be kept: what a provider gives back of the secrets that it was sent is cut out of it, by the
 * names of the fields, and wherever else such a value stands. What holds none stays as it is, byte for byte.
 */
export function withoutSecrets(body: Buffer): Buffer {
  const text = body.toString("utf8");
  if (!/^\s*[[{]/.test(text)) return fromForm(body, text);
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
  if (typeof value === "string" && isSecret && value !== "" && value !== cut) found.add(value);
  if (typeof value !== "object" || value === null) return;
  for (const [name, inner] of Object.entries(value)) collect(inner, isBelow(value, name, isSecret), found);
}

/** The same shape, so that it can still be read and applied again. */
function replaced(value: unknown, isSecret: boolean, known: readonly string[]): unknown {
  if (typeof value === "string") {
    if (isSecret) return value === "" ? value : cut;
    return known.reduce((text, secret) => text.replaceAll(secret, cut), value);
  }
  if (Array.isArray(value)) return value.map((inner) => replaced(inner, isSecret, known));
  if (typeof value !== "object" || value === null) return value;
  const fields = Object.entries(value);
  return Object.fromEntries(
    fields.map(([name, inner]) => [name, replaced(inner, isBelow(value, name, isSecret), known)]),
  );
}

/** Texts are secret by their own name; what is below a name, by a name that stands for all of it. */
function isBelow(parent: object, name: string, isSecret: boolean): boolean {
  if (isSecret || Array.isArray(parent)) return isSecret;
  const inner = (parent as Record<string, unknown>)[name];
  return typeof inner === "object" ? secretBranch.test(name) : secretName.test(name);
}

/** A short value would be cut out of the middle of other words. */
const elsewhere = (found: ReadonlySet<string>) => [...found].filter(({ length }) => length >= shortestElsewhere);

function fromForm(body: Buffer, text: string): Buffer {
  if (!/^[\w.%[\]-]+=/.test(text)) return body;
  const form = new URLSearchParams(text);
  const secrets = [...form.keys()].filter((name) => secretName.test(name) && form.get(name) !== "");
  if (secrets.length === 0) return body;
  for (const name of secrets) form.set(name, cut);
  return Buffer.from(form.toString());
}
