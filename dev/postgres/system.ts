import { execFile } from "node:child_process";
import fs from "node:fs/promises";
import { promisify } from "node:util";
import type { Account } from "./account.ts";

export const run = promisify(execFile);

/** Why a program cannot run, as it reports; undefined when it can. */
export async function failureOf(file: string, args: string[], account?: Account): Promise<string | undefined> {
  try {
    await run(file, args, { ...account, cwd: "/", env: environment(), timeout: 60_000 });
    return undefined;
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    const stderr = "stderr" in error && typeof error.stderr === "string" ? error.stderr.trim() : "";
    return stderr || error.message;
  }
}

/** Without PG* variables of the developer's shell, which would reach the server. The C locale keeps the log readable. */
export function environment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !/^(PG|LC_|LANG)/.test(name));
  return { ...Object.fromEntries(kept), LC_ALL: "C" };
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return codeOf(error) === "EPERM";
  }
}

/** A file's text, or undefined when there is no such file. */
export async function textOf(path: string): Promise<string | undefined> {
  try {
    return await fs.readFile(path, "utf8");
  } catch (error) {
    if (["ENOENT", "ENOTDIR", "ESRCH"].includes(codeOf(error))) return undefined;
    throw error;
  }
}

export function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : String(error);
}
