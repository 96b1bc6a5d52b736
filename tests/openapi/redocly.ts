import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";

const root = resolve(import.meta.dirname, "../..");

/** Runs redocly over a document, with the rules of redocly.yaml. */
export async function lintWithRedocly(json: string): Promise<{ code: number; output: string }> {
  const folder = await mkdtemp(join(tmpdir(), "openapi-"));
  const file = join(folder, "openapi.json");
  await writeFile(file, json);
  const env = { ...process.env, REDOCLY_TELEMETRY: "off", REDOCLY_SUPPRESS_UPDATE_NOTICE: "true" };
  const program = join(root, "node_modules/.bin/redocly");
  try {
    const args = ["lint", file, "--config", "redocly.yaml"];
    const { stdout, stderr } = await promisify(execFile)(program, args, { cwd: root, env });
    return { code: 0, output: stdout + stderr };
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
    return { code, output: stdout + stderr };
  } finally {
    await rm(folder, { recursive: true });
  }
}
