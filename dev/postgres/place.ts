import { existsSync } from "node:fs";
import fs from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { SetupProblem } from "../simulators/setup-problem.ts";
import { type Account, postgresAccount } from "./account.ts";
import { type Binaries, findBinaries, runnableBinaries } from "./binaries.ts";
import { canReach, fallbackDirectory } from "./fallback-directory.ts";
import { unwritable } from "./problems.ts";
import { failureOf } from "./system.ts";

/** `account` is set when we run as root: Postgres refuses root, and runs as that account. */
export type Place = { dataDir: string; binaries: Binaries; account: Account | undefined };

export async function reachablePlace(requested: string, log: (line: string) => void): Promise<Place> {
  const dataDir = await canonical(requested);
  const binaries = await findBinaries();
  if (process.getuid?.() !== 0) {
    await refuseForeignData(dataDir);
    const failure = await failureOf(binaries.postgres, ["--version"]);
    if (failure) throw new SetupProblem(`The bundled Postgres does not run on this system: ${failure}`);
    return { dataDir, binaries, account: undefined };
  }
  const account = (await ownerOf(dataDir)) ?? (await postgresAccount());
  return {
    account,
    binaries: await runnableBinaries(binaries, account, log),
    dataDir: await reachableData(dataDir, account, log),
  };
}

/** The same directory under any path is one cluster, one lock and one `data_directory`. */
async function canonical(dataDir: string): Promise<string> {
  try {
    await fs.mkdir(dirname(dataDir), { recursive: true });
    return existsSync(dataDir)
      ? await fs.realpath(dataDir)
      : join(await fs.realpath(dirname(dataDir)), basename(dataDir));
  } catch (error) {
    throw unwritable(dataDir, error);
  }
}

async function refuseForeignData(dataDir: string): Promise<void> {
  const uid = process.getuid?.();
  const owner = existsSync(dataDir) ? (await fs.stat(dataDir)).uid : uid;
  if (owner === uid) return;
  throw new SetupProblem(
    `The data directory ${dataDir} belongs to another user (uid ${owner}): run as that user, remove it, ` +
      "or choose another data directory.",
  );
}

/** A cluster created without root keeps its owner when root starts it, so that its owner can start it again. */
async function ownerOf(dataDir: string): Promise<Account | undefined> {
  if (!existsSync(join(dataDir, "PG_VERSION"))) return undefined;
  const { uid, gid } = await fs.stat(dataDir);
  return uid === 0 ? undefined : { uid, gid };
}

async function reachableData(dataDir: string, account: Account, log: (line: string) => void): Promise<string> {
  if (await canReach(account, dirname(dataDir))) return dataDir;
  const instead = join(await fallbackDirectory(dataDir, account), "data");
  log(`Postgres cannot reach ${dataDir} without being root; its data is kept in ${instead}.`);
  return instead;
}
