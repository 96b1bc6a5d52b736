import { execFile } from "node:child_process";
import { globSync } from "node:fs";
import { cp, mkdtemp, readFile, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { beforeAll, expect, test } from "vitest";

const root = resolve(import.meta.dirname, "../..");
const run = promisify(execFile);
let copy: string;

beforeAll(async () => {
  copy = await mkdtemp(join(tmpdir(), "scaffold-"));
  const parts = ["server", "edge", "routers", "jobs", "db", "dev", "tests", "docs", "package.json"];
  const files = [...parts, ...globSync("*.{ts,json}", { cwd: root })];
  for (const part of new Set(files)) {
    await cp(join(root, part), join(copy, part), {
      recursive: true,
      filter: (source) => !source.includes("node_modules"),
    });
  }
  await symlink(join(root, "node_modules"), join(copy, "node_modules"));
  return () => rm(copy, { recursive: true, force: true });
});

test("`npm run new -- module` writes a module that compiles, with its migration", { timeout: 180_000 }, async () => {
  const { stdout } = await run(process.execPath, ["dev/scaffold.ts", "module", "call-labels"], { cwd: copy });
  expect(stdout).toContain("created routers/call-labels/router.ts");
  await run(process.execPath, ["node_modules/typescript/bin/tsc", "--noEmit", "-p", "."], { cwd: copy });
  const [migration] = globSync("db/migrations/*_add_call_labels.sql", { cwd: copy });
  const sql = await readFile(join(copy, migration!), "utf8");
  expect(sql).toContain('CREATE TABLE "call_labels"');
  expect(sql).toContain('CREATE POLICY "own_rows" ON "call_labels"');
  const again = run(process.execPath, ["dev/scaffold.ts", "module", "call-labels"], { cwd: copy });
  await expect(again).rejects.toMatchObject({ code: 1, stderr: expect.stringContaining("exists already") });
});
