import { randomBytes } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { SeededClient } from "./seed.ts";
import { SetupProblem } from "./simulators/setup-problem.ts";

export const dataDir = resolve(process.env.PATCHBAY_DATA ?? ".data");
const keptFile = join(dataDir, "kept.json");

/** What survives the process: the secrets of this installation, and the demo client's key. */
export type Kept = { appSecret: string; masterKey: string; webhookSecret: string; demo?: SeededClient };

export async function makeDataDir() {
  try {
    await mkdir(dataDir, { recursive: true });
    await writeFile(join(dataDir, ".writable"), "");
  } catch {
    throw new SetupProblem(`${dataDir} is not writable. Make it writable, or name another folder in PATCHBAY_DATA.`);
  }
}

export async function readKept(): Promise<Kept> {
  const text = await readFile(keptFile, "utf8").catch(() => null);
  if (text) return JSON.parse(text) as Kept;
  const random = () => randomBytes(32).toString("base64");
  const kept = { appSecret: random(), masterKey: random(), webhookSecret: randomBytes(24).toString("hex") };
  await writeKept(kept);
  return kept;
}

export async function writeKept(kept: Kept): Promise<void> {
  await writeFile(keptFile, JSON.stringify(kept, null, 2), { mode: 0o600 });
}
