import { globSync, readFileSync } from "node:fs";
import { dirname, join, normalize, resolve } from "node:path";
import { type Node, parseSync, Visitor } from "oxc-parser";

export const root = resolve(import.meta.dirname, "../..");

const layers = ["server", "edge", "routers", "jobs", "db", "dev"] as const;
export type Layer = (typeof layers)[number];
export const layerOf = (file: string) => file.split("/")[0] as Layer;

/** Every source file of the product and the local world, without tests, as paths from the root. */
export const sourceFiles = globSync(`{${layers.join(",")}}/**/*.ts`, { cwd: root }).sort();

export const testFiles = globSync("tests/**/*.ts", { cwd: root }).sort();

const texts = new Map<string, string>();

export function textOf(file: string): string {
  const known = texts.get(file);
  if (known !== undefined) return known;
  const text = readFileSync(join(root, file), "utf8");
  texts.set(file, text);
  return text;
}

const parsed = new Map<string, ReturnType<typeof parseSync>>();

export function parse(file: string) {
  const known = parsed.get(file);
  if (known) return known;
  const result = parseSync(file, textOf(file));
  if (result.errors.length > 0) throw new Error(`${file}: ${result.errors[0]?.message}`);
  parsed.set(file, result);
  return result;
}

export type Import = { file: string; target: string };

/** Our own files that a file imports, re-exports or loads with `import()`. Type imports count. */
export function importsOf(file: string): Import[] {
  const { module } = parse(file);
  const text = textOf(file);
  const specifiers = [
    ...module.staticImports.map(({ moduleRequest }) => moduleRequest.value),
    ...module.staticExports.flatMap(({ entries }) =>
      entries.flatMap(({ moduleRequest }) => moduleRequest?.value ?? []),
    ),
    ...module.dynamicImports.map(({ moduleRequest: { start, end } }) => text.slice(start + 1, end - 1)),
    ...typeImportsOf(file),
  ];
  return [...new Set(specifiers)]
    .filter((specifier) => specifier.startsWith("."))
    .map((specifier) => ({ file, target: normalize(join(dirname(file), specifier)) }));
}

/** `import("./x.ts").Y` in a type. */
function typeImportsOf(file: string): string[] {
  const found: string[] = [];
  new Visitor({ TSImportType: ({ source }) => void found.push(String(source.value)) }).visit(parse(file).program);
  return found;
}

export type Text = { file: string; line: number; text: string };

export const lineAt = (file: string, offset: number) => textOf(file).slice(0, offset).split("\n").length;

export const commentsOf = (file: string): Text[] =>
  parse(file).comments.map(({ value, start }) => ({ file, line: lineAt(file, start), text: value }));

/** String literals and templates that read like a sentence: three words or more. */
export function messagesOf(file: string): Text[] {
  const found: Text[] = [];
  const add = (text: string, start: number) => {
    if (/\w \w+ \w/.test(text) && !isSql(text)) found.push({ file, line: lineAt(file, start), text });
  };
  new Visitor({
    Literal: ({ value, start }) => {
      if (typeof value === "string") add(value, start);
    },
    TemplateElement: ({ value, start }) => add(value.cooked ?? "", start),
  }).visit(parse(file).program);
  return found;
}

const isSql = (text: string) =>
  /^\s*(select|insert|update|delete|with|create|alter|begin|set|from|where|and|or|order by|lock|on conflict|returning|join|left join|case)\b/.test(
    text,
  );

export type FunctionLength = { file: string; line: number; lines: number };

/** Functions and methods, with their length. A router or a test suite is one call with many functions in it, not one function. */
export function functionsOf(file: string): FunctionLength[] {
  const found: FunctionLength[] = [];
  const add = ({ start, end }: Pick<Node, "start" | "end">) => {
    const line = lineAt(file, start);
    found.push({ file, line, lines: lineAt(file, end) - line + 1 });
  };
  new Visitor({ FunctionDeclaration: add, FunctionExpression: add, ArrowFunctionExpression: add }).visit(
    parse(file).program,
  );
  return found;
}
