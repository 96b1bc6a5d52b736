import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import fs from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SetupProblem } from "../simulators/setup-problem.ts";
import type { Account } from "./account.ts";
import { failureOf } from "./system.ts";

export async function canReach(account: Account, dir: string): Promise<boolean> {
  return (await failureOf("/bin/sh", ["-c", 'cd -- "$1"', "sh", dir], account)) === undefined;
}

/** A directory of root that every user can reach, always the same for the same path. */
export async function fallbackDirectory(path: string, account: Account): Promise<string> {
  const name = `patchbay-${createHash("sha256").update(path).digest("hex").slice(0, 12)}`;
  // /var/tmp first: it survives a restart of the machine.
  for (const base of ["/var/tmp", tmpdir(), "/tmp"]) {
    if (!existsSync(base) || !(await canReach(account, base))) continue;
    const dir = join(base, name);
    await fs.mkdir(dir, { recursive: true, mode: 0o755 });
    const made = await fs.lstat(dir);
    if (!made.isDirectory() || made.uid !== 0) {
      throw new SetupProblem(`${dir} is needed for Postgres and belongs to another user. Remove it.`);
    }
    await fs.chmod(dir, 0o755);
    return dir;
  }
  throw new SetupProblem(
    `Postgres cannot reach ${path} without root permissions. Move the project out of it, or run as a user.`,
  );
}
