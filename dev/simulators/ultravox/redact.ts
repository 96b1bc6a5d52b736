const SECRET = /secret|password|token|authorization|api_?key|^headers$/i;

/** A copy of the same shape in which every value below a secret-sounding name is "[redacted]". */
export function redact(value: unknown, hidden = false): unknown {
  if (Array.isArray(value)) return value.map((each) => redact(each, hidden));
  if (typeof value === "object" && value !== null) {
    const fields = Object.entries(value);
    return Object.fromEntries(fields.map(([name, field]) => [name, redact(field, hidden || SECRET.test(name))]));
  }
  return hidden && typeof value === "string" ? "[redacted]" : value;
}
