import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import fs from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { SetupProblem } from "../simulators/setup-problem.ts";
import type { Place } from "./place.ts";
import { unwritable } from "./problems.ts";
import { failureOf, textOf } from "./system.ts";
import { superuser } from "./url.ts";

const passwordFile = "patchbay.password";

/** Returns the password. A cluster appears under its name only when it is complete, password included. */
export async function initialise({ dataDir, binaries, account }: Place, isVolatile: boolean): Promise<string> {
  if (existsSync(join(dataDir, "PG_VERSION"))) return await storedPassword(dataDir);
  await refuseOtherContents(dataDir);
  const password = randomBytes(24).toString("base64url");
  const staging = `${dataDir}.initialising-${process.pid}`;
  const secret = `${staging}.password`;
  try {
    await removeUnfinished(dataDir);
    await fs.mkdir(staging, { mode: 0o700 });
    await fs.writeFile(secret, password, { mode: 0o600 });
    if (account) await Promise.all([staging, secret].map((path) => fs.chown(path, account.uid, account.gid)));
    const flags = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--encoding=UTF8"];
    const access = ["--auth=scram-sha-256", `--username=${superuser}`, `--pwfile=${secret}`];
    const args = [`--pgdata=${staging}`, ...access, ...flags, ...(isVolatile ? ["--no-sync"] : [])];
    const failure = await failureOf(binaries.initdb, args, account);
    if (failure) throw new SetupProblem(`Postgres could not create a cluster in ${dataDir}: ${failure}`);
    await fs.rename(secret, join(staging, passwordFile));
    await fs.rm(dataDir, { recursive: true, force: true });
    await fs.rename(staging, dataDir);
    return password;
  } catch (error) {
    if (error instanceof SetupProblem) throw error;
    throw unwritable(dataDir, error);
  } finally {
    await Promise.all([staging, secret].map((path) => fs.rm(path, { recursive: true, force: true })));
  }
}

/** Removes the remains of processes that were killed during initialisation. */
async function removeUnfinished(dataDir: string): Promise<void> {
  const parent = dirname(dataDir);
  const left = (await fs.readdir(parent)).filter((name) => name.startsWith(`${basename(dataDir)}.initialising-`));
  await Promise.all(left.map((name) => fs.rm(join(parent, name), { recursive: true, force: true })));
}

async function storedPassword(dataDir: string): Promise<string> {
  const password = await textOf(join(dataDir, passwordFile));
  if (password) return password;
  throw new SetupProblem(`${dataDir} holds a Postgres that Patchbay did not create. Choose another data directory.`);
}

async function refuseOtherContents(dataDir: string): Promise<void> {
  const contents = existsSync(dataDir) ? await fs.readdir(dataDir) : [];
  if (contents.length === 0) return;
  throw new SetupProblem(`${dataDir} is not empty and holds no Postgres. Choose another data directory.`);
}
