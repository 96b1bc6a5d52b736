/** The `{{variables}}` of a text. The provider fills them in, as mustache without its sections. */

export const variableName = /^[A-Za-z_][A-Za-z0-9_]{0,63}$/;

export type Value = string | number | boolean;
export type Values = Record<string, Value>;

/** What the provider fills in by itself, of the line that the call came in by. */
const providersOwn = /^ultravox(\.|$)/;

/** Spaces are trimmed afterwards: a pattern that matches them tries every way to share them out. */
const marks = /\{\{\{([^{}]*)\}\}\}|\{\{([^{}]*)\}\}/g;

/** The name within a mark of three braces or of two, of which the first may begin with `&`. */
const nameOf = (triple: string | undefined, double = "") => triple?.trim() ?? double.trim().replace(/^&/, "").trim();

function namesIn(text: string): string[] {
  const names = Array.from(text.matchAll(marks), ([, triple, double]) => nameOf(triple, double));
  return [...new Set(names)].filter((name) => !providersOwn.test(name));
}

/** The variables that a text uses, each once, in order. */
export const variablesIn = (text: string): string[] => namesIn(text).filter((name) => variableName.test(name));

/** What stands in double braces and is no variable: the provider would make nothing of it, or something else. */
export const oddMarksIn = (text: string): string[] => namesIn(text).filter((name) => !variableName.test(name));

/** Does anything stand in it that is filled per call, by us or by the provider? */
export const isTemplate = (text: string): boolean => text.search(marks) >= 0;

/** The text with its variables filled in, once: what a value itself holds is text. Of a name without a value nothing is left. */
export function render(text: string, values: Readonly<Values>): string {
  return text.replace(marks, (_, triple: string | undefined, double: string | undefined) => {
    const name = nameOf(triple, double);
    return Object.hasOwn(values, name) ? String(values[name]) : "";
  });
}

/**
 * Fields that may hold variables. A table of them, one entry for each field of a type, is the only list of templated
 * fields: what a text uses, what is wrong with it, and what it is once it is filled in, are all read through it.
 */
export type Visit = (text: string, path: string, judge: ValueJudge) => string;
/** What the text must be once it is filled in. */
export type ValueJudge = "text" | "language" | "header" | "callee";
export type Field<T> = (value: T, path: string, visit: Visit) => T;
export type Fields<T> = { [F in keyof T]-?: Field<T[F]> };

export const plain = <T>(value: T): T => value;
export const text =
  (judge: ValueJudge = "text"): Field<string> =>
  (value, path, visit) =>
    visit(value, path, judge);

export const orNull =
  <T>(field: Field<T>): Field<T | null> =>
  (value, path, visit) =>
    value === null ? null : field(value, path, visit);

export const listOf =
  <T>(field: Field<T>): Field<T[]> =>
  (values, path, visit) =>
    values.map((value, index) => field(value, `${path}.${index}`, visit));

export const objectOf =
  <T extends object>(fields: Fields<T>): Field<T> =>
  (value, path, visit) => {
    const names = Object.keys(fields) as (keyof T & string)[]; // in the order of the table, which has every field
    const entries = names.map((name) => [name, fields[name](value[name], path ? `${path}.${name}` : name, visit)]);
    return { ...value, ...(Object.fromEntries(entries) as T) };
  };

/** Every text within any JSON. */
export const anyJson: Field<unknown> = (value, path, visit) => {
  if (typeof value === "string") return visit(value, path, "text");
  if (Array.isArray(value)) return value.map((inner, index) => anyJson(inner, `${path}.${index}`, visit));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, inner]) => [name, anyJson(inner, `${path}.${name}`, visit)]),
  );
};

/** A text that is filled per call, where it stands, and what it must be then. */
export type Use = { path: string; text: string; judge: ValueJudge };

export function usesIn<T>(field: Field<T>, value: T, path = ""): Use[] {
  const uses: Use[] = [];
  field(value, path, (text, at, judge) => {
    uses.push({ path: at, text, judge });
    return text;
  });
  return uses;
}

export const filledIn = <T>(field: Field<T>, value: T, values: Readonly<Values>): T =>
  field(value, "", (text) => render(text, values));
