import { execFileSync } from "node:child_process";
import { cp, glob, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join, relative, resolve } from "node:path";
import { scalarFile } from "../server/scalar.ts";

const root = resolve(import.meta.dirname, "..");
const out = resolve(root, process.argv[2] ?? "dist");

type Package = Record<string, unknown>;
type Lock = { packages: Record<string, Package> };

/** `npm run build [folder]`: what an installation needs and nothing else, complete but for `npm ci --omit=dev` in it. */
await rm(out, { recursive: true, force: true });
execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "-p", "tsconfig.build.json", "--outDir", out], {
  cwd: root,
  stdio: "inherit",
});
for await (const file of glob("db/{*.sql,migrations/**/*.{sql,json}}", { cwd: root }))
  await copy(join(root, file), file);
await copy(scalarFile, "vendor/scalar.js");

const source = JSON.parse(await readFile(join(root, "package.json"), "utf8")) as Package;
const { name, version, description, license, type, dependencies, optionalDependencies } = source;
const engines = { node: ">=22" }; // the sources bring a Node of their own; what is built runs on the machine's
await write("package.json", {
  ...{ name, version, description, private: true, license, type, engines },
  exports: { "./client": { types: "./edge/client.d.ts", default: "./edge/client.js" } },
  scripts: {
    start: "node server/main.js",
    "start:api": "node server/api.js",
    "start:worker": "node server/worker.js",
    migrate: "node server/migrate.js",
    operate: "node server/operate.js",
  },
  dependencies,
  optionalDependencies,
});
const lock = JSON.parse(await readFile(join(root, "package-lock.json"), "utf8")) as Lock;
await write("package-lock.json", { ...lock, packages: needed(lock.packages) });
console.log(`Built ${name} ${version} in ${relative(process.cwd(), out) || "."}`);

/** The locked packages without those that only development asks for. */
function needed({ "": own, ...packages }: Lock["packages"]): Lock["packages"] {
  const { devDependencies: _, ...kept } = own!;
  return { "": kept, ...Object.fromEntries(Object.entries(packages).filter(([, { dev }]) => dev !== true)) };
}

async function copy(from: string, to: string) {
  await mkdir(dirname(join(out, to)), { recursive: true });
  await cp(from, join(out, to));
}

async function write(file: string, content: object) {
  await writeFile(join(out, file), `${JSON.stringify(content, null, 2)}\n`);
}
