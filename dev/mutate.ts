import { spawnSync } from "node:child_process";
import { existsSync, globSync, readFileSync, writeFileSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { type Node, parseSync, Visitor } from "oxc-parser";

/**
 * `npm run mutate -- routers/billing jobs/webhooks.ts [--count 10] [--seed 1] [--tests tests/billing]`: changes one place at
 * a time and runs the tests of the module. A mutation that no test notices survives, and is listed with its place.
 * Files are restored, also after Ctrl-C. Exits with 1 when one survives.
 */
const root = resolve(import.meta.dirname, "..");
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    count: { type: "string", default: "10" },
    seed: { type: "string", default: "1" },
    tests: { type: "string", multiple: true },
    dry: { type: "boolean", default: false },
  },
});

type Mutation = { file: string; line: number; start: number; end: number; replacement: string };

const comparisons: Record<string, string> = {
  "<": "<=",
  "<=": "<",
  ">": ">=",
  ">=": ">",
  "===": "!==",
  "!==": "===",
  "&&": "||",
  "||": "&&",
  "+": "-",
  "-": "+",
};

/** Every place of a file that can change: comparisons, constants, conditions, statements. */
function mutationsOf(file: string): Mutation[] {
  const text = readFileSync(join(root, file), "utf8");
  const found: Mutation[] = [];
  const add = ({ start, end }: Pick<Node, "start" | "end">, replacement: string) => {
    found.push({ file, line: text.slice(0, start).split("\n").length, start, end, replacement });
  };
  const operator = ({ left, right, operator: sign }: { left: Node; right: Node; operator: string }) => {
    const other = comparisons[sign];
    const start = text.indexOf(sign, left.end);
    if (other && start >= 0 && start < right.start) add({ start, end: start + sign.length }, other);
  };
  new Visitor({
    BinaryExpression: operator,
    LogicalExpression: operator,
    Literal: (node) => {
      if (typeof node.value === "boolean") add(node, String(!node.value));
      if (typeof node.value === "number") add(node, String(node.value + 1));
    },
    IfStatement: ({ test }) => add(test, "false"),
    ExpressionStatement: (node) => {
      if (!node.directive) add(node, ";");
    },
  }).visit(parseSync(file, text).program);
  return found;
}

/** A sample that depends only on the seed (mulberry32). */
function sample<T>(items: readonly T[], count: number, seed: number): T[] {
  let state = seed;
  const random = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const rest = [...items];
  const chosen: T[] = [];
  while (rest.length > 0 && chosen.length < count) chosen.push(...rest.splice(Math.floor(random() * rest.length), 1));
  return chosen;
}

/**
 * The tests where one looks for those of a file: tests/<module> for routers/<module> and jobs/<module>.ts, tests/<layer>,
 * and test files that have its name or import it.
 */
function testsOf(file: string): string[] {
  const [layer = "", part = ""] = file.split("/");
  const module = part.replace(/\.ts$/, "");
  const folders = (values.tests ?? [`tests/${module}`, `tests/${layer}`]).filter((each) =>
    existsSync(join(root, each)),
  );
  if (values.tests) return folders;
  const own = globSync("tests/*/*.test.ts", { cwd: root }).filter((test) => {
    const isNamed = basename(test) === `${basename(file, ".ts")}.test.ts`;
    return isNamed || readFileSync(join(root, test), "utf8").includes(`"../../${file}"`);
  });
  return [...folders, ...own.filter((test) => !folders.includes(dirname(test)))];
}

function isKilled({ file, start, end, replacement }: Mutation): boolean {
  const path = join(root, file);
  const text = readFileSync(path, "utf8");
  const restore = () => writeFileSync(path, text);
  process.once("exit", restore);
  try {
    writeFileSync(path, text.slice(0, start) + replacement + text.slice(end));
    const args = ["node_modules/vitest/vitest.mjs", "run", "--bail=1", ...testsOf(file)];
    return spawnSync(process.execPath, args, { cwd: root, stdio: "ignore", timeout: 600_000 }).status !== 0;
  } finally {
    restore();
    process.off("exit", restore);
  }
}

const files = positionals.flatMap((path) =>
  path.endsWith(".ts") ? [path] : globSync(`${path}/**/*.ts`, { cwd: root }),
);
if (files.length === 0) {
  console.error("Give files or folders: npm run mutate -- routers/billing");
  process.exit(1);
}
process.on("SIGINT", () => process.exit(130));
const mutations = sample(files.sort().flatMap(mutationsOf), Number(values.count), Number(values.seed));
let survivors = 0;
for (const mutation of mutations) {
  const { file, line, start, end, replacement } = mutation;
  const original = readFileSync(join(root, file), "utf8").slice(start, end).replace(/\s+/g, " ").slice(0, 60);
  const result = values.dry ? "not run" : isKilled(mutation) ? "killed" : "SURVIVED";
  if (result === "SURVIVED") survivors += 1;
  console.log(`${result.padEnd(9)} ${file}:${line}  ${original}  ->  ${replacement}`);
}
if (!values.dry) console.log(`${mutations.length - survivors} killed, ${survivors} survived`);
process.exitCode = survivors > 0 ? 1 : 0;
