/** The `{{variables}}` of a text. The provider replaces them, as mustache without sections. */

export const variableName = /^[A-Za-z_][A-Za-z0-9_]{0,63}$/;

export type Value = string | number | boolean;
export type Values = Record<string, Value>;

/** Variables that the provider fills itself, with data of the inbound call. */
const providersOwn = /^ultravox(\.|$)/;

/** Spaces are trimmed afterwards, because a pattern that also matches them backtracks over every split. */
const marks = /\{\{\{([^{}]*)\}\}\}|\{\{([^{}]*)\}\}/g;

/** The name inside `{{{ }}}` or `{{ }}`. In two braces it can begin with `&`. */
const nameOf = (triple: string | undefined, double = "") => triple?.trim() ?? double.trim().replace(/^&/, "").trim();

function namesIn(text: string): string[] {
  const names = Array.from(text.matchAll(marks), ([, triple, double]) => nameOf(triple, double));
  return [...new Set(names)].filter((name) => !providersOwn.test(name));
}

/** The variables of a text, each once, in order. */
export const variablesIn = (text: string): string[] => namesIn(text).filter((name) => variableName.test(name));

/** Marks that are not variables: the provider would remove or misread them. */
export const oddMarksIn = (text: string): string[] => namesIn(text).filter((name) => !variableName.test(name));

/** Whether the text has marks, which we or the provider replace per call. */
export const isTemplate = (text: string): boolean => text.search(marks) >= 0;

/** Replaces the variables once, so marks inside values stay as text. A variable without a value becomes empty. */
export function render(text: string, values: Readonly<Values>): string {
  return text.replace(marks, (_, triple: string | undefined, double: string | undefined) => {
    const name = nameOf(triple, double);
    return Object.hasOwn(values, name) ? String(values[name]) : "";
  });
}

/**
 * Fields that can contain variables. A table with one entry for each field of a type is the only list of templated fields:
 * their variables, their errors and their final texts are all found through it.
 */
export type Visit = (text: string, path: string, judge: ValueJudge) => string;
/** The format that the text must have once its variables are replaced. */
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
    const names = Object.keys(fields) as (keyof T & string)[]; // the table has every field
    const entries = names.map((name) => [name, fields[name](value[name], path ? `${path}.${name}` : name, visit)]);
    return { ...value, ...(Object.fromEntries(entries) as T) };
  };

/** Every string in any JSON value. */
export const anyJson: Field<unknown> = (value, path, visit) => {
  if (typeof value === "string") return visit(value, path, "text");
  if (Array.isArray(value)) return value.map((inner, index) => anyJson(inner, `${path}.${index}`, visit));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, inner]) => [name, anyJson(inner, `${path}.${name}`, visit)]),
  );
};

/** A templated text, its path, and the format that its final text must have. */
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
