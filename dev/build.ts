import { execFileSync } from "node:child_process";
import { cp, glob, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join, relative, resolve } from "node:path";
import { type BuildOptions, build, type Plugin } from "esbuild";
import { scalarFile } from "../server/scalar.ts";

const root = resolve(import.meta.dirname, "..");
const out = resolve(root, process.argv[2] ?? "dist");

type Package = Record<string, unknown>;
type Lock = { packages: Record<string, Package> };

/** A source file that reads a file beside it finds that file, although its code moves into a chunk. */
function rewriteOwnFileUrls(file: string, text: string): string {
  return text.replaceAll("import.meta.url", `fileUrlInBuild(${JSON.stringify(relative(root, file))})`);
}

const ownFileUrls: Plugin = {
  name: "own-file-urls",
  setup({ onLoad }) {
    onLoad({ filter: /[/\\](server|edge|routers|jobs|db)[/\\].*\.ts$/ }, async ({ path }) => {
      if (path.includes("node_modules")) return undefined;
      const text = await readFile(path, "utf8");
      return { contents: rewriteOwnFileUrls(path, text), loader: "ts" };
    });
  },
};

/** `npm run build [folder]` writes the server as a few files that need no node_modules, and the typed client. */
await rm(out, { recursive: true, force: true });
await build(serverOptions());
await build(clientOptions());
const compiler = [
  "node_modules/typescript/bin/tsc",
  "-p",
  "tsconfig.build.json",
  "--emitDeclarationOnly",
  "--outDir",
  out,
];
execFileSync(process.execPath, compiler, { cwd: root, stdio: "inherit" });
for await (const file of glob("db/{*.sql,migrations/**/*.{sql,json}}", { cwd: root }))
  await copy(join(root, file), file);
await copy(scalarFile, "vendor/scalar.js");

const source = JSON.parse(await readFile(join(root, "package.json"), "utf8")) as Package;
const { name, version, description, license, type, dependencies, optionalDependencies } = source;
const engines = { node: ">=22" }; // npm installs Node for the sources; a build runs on the machine's Node
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
  dependencies, // needed by the client and its types only
  optionalDependencies,
});
const lock = JSON.parse(await readFile(join(root, "package-lock.json"), "utf8")) as Lock;
await write("package-lock.json", { ...lock, packages: needed(lock.packages) });
console.log(`Built ${name} ${version} in ${relative(process.cwd(), out) || "."}`);

function serverOptions(): BuildOptions {
  return {
    ...common(),
    entryPoints: [
      ...["main", "api", "worker", "migrate"].map((entry) => ({ in: `server/${entry}.ts`, out: `server/${entry}` })),
      { in: "server/operate/main.ts", out: "server/operate" },
    ],
    splitting: true,
    chunkNames: "chunks/[name]-[hash]",
    // CommonJS packages in the bundle call `require` for Node's modules. Our modules find their files from the root of the build.
    banner: {
      js: [
        'import { createRequire as createRequireOfBundle } from "node:module";',
        "const require = createRequireOfBundle(import.meta.url);",
        'const fileUrlInBuild = (file) => new URL(file, new URL("../", import.meta.url)).href;',
      ].join("\n"),
    },
    external: ["pg-native", "cloudflare:sockets"],
    plugins: [ownFileUrls],
  };
}

/** The client keeps its imports: it is a library for other projects. */
function clientOptions(): BuildOptions {
  return { ...common(), entryPoints: [{ in: "edge/client.ts", out: "edge/client" }], packages: "external" };
}

function common(): BuildOptions {
  return {
    absWorkingDir: root,
    outdir: out,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node22",
    conditions: ["patchbay-source"],
    keepNames: true,
    legalComments: "none",
    logLevel: "warning",
  };
}

/** The locked packages, without development packages. */
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
