import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { Env, EnvironmentProblem, readEnv } from "../../server/env.ts";
import { program } from "../support/program.ts";

const root = resolve(import.meta.dirname, "../..");
const example = readFileSync(join(root, ".env.example"), "utf8");
const lines = [...example.matchAll(/^([A-Z][A-Z0-9_]*)=(.*)$/gm)].map(([, name, value]) => [name!, value!] as const);
const key = Buffer.alloc(32, 1).toString("base64");
const whole = {
  ...Object.fromEntries(lines),
  APP_SECRET: key,
  VAULT_MASTER_KEY: key,
  ULTRAVOX_API_KEY: "key",
  ULTRAVOX_WEBHOOK_SECRETS: "one, two",
};

test(".env.example lists every variable once, in the order of the code", () => {
  expect(lines.map(([name]) => name)).toEqual(Object.keys(Env.shape));
});

test(".env.example with the secrets filled in is valid, and each default it shows is the default", () => {
  const read = readEnv(whole);
  expect(read.ULTRAVOX_WEBHOOK_SECRETS).toEqual(["one", "two"]);
  const optional = Object.entries(Env.shape).filter(([, schema]) => schema.safeParse(undefined).success);
  // Required unless a key service is configured.
  const left = optional.map(([name]) => name).filter((name) => name !== "VAULT_MASTER_KEY");
  expect(readEnv({ ...whole, ...Object.fromEntries(left.map((name) => [name, ""])) })).toEqual(read);
});

test("the error lists every missing variable, and the reason for every invalid one", () => {
  const problem = catching(() => readEnv({ PORT: "no", APP_SECRET: "short", ALLOW_PRIVATE_WEBHOOKS: "1" }));
  expect(problem).toBeInstanceOf(EnvironmentProblem);
  const required = Object.entries(Env.shape).filter(([, schema]) => !schema.safeParse(undefined).success);
  for (const [name] of required) expect(problem.message).toContain(name);
  expect(problem.message).toContain("VAULT_MASTER_KEY is not set.");
  expect(problem.message).toContain("PORT: must be a whole number");
  expect(problem.message).toContain("APP_SECRET: must be 32 random bytes");
  expect(problem.message).toContain("ALLOW_PRIVATE_WEBHOOKS: Use one of: true, false.");
  expect(problem.message).not.toContain("short");
});

test("a key service replaces the master key, given by its ARN and region", () => {
  const arn = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab";
  const kms = { ...whole, VAULT_MASTER_KEY: "", VAULT_KMS_KEY_ID: arn, VAULT_KMS_REGION: "eu-central-1" };
  expect(readEnv(kms).VAULT_MASTER_KEY).toBeUndefined();
  expect(catching(() => readEnv({ ...kms, VAULT_KMS_REGION: "" })).message).toContain("VAULT_KMS_REGION is not set.");
  expect(catching(() => readEnv({ ...kms, VAULT_KMS_KEY_ID: "alias/patchbay" })).message).toContain("not an alias");
  expect(catching(() => readEnv({ ...whole, VAULT_PREVIOUS_MASTER_KEYS: "short" })).message).not.toContain(": short");
});

test.each(["server/main.ts", "server/migrate.ts"])(
  "%s without an environment prints one message and exits with 1",
  async (entry) => {
    const { code, stderr } = await start(entry);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^The environment is not complete:\n/);
    expect(stderr).toContain("DATABASE_URL is not set.");
    expect(stderr).not.toContain(" at ");
  },
);

function start(entry: string): Promise<{ code: number; stderr: string }> {
  const run = promisify(execFile)(process.execPath, program(entry), {
    cwd: root,
    env: { PATH: process.env.PATH },
    timeout: 60_000,
  });
  return run.then(
    ({ stderr }) => ({ code: 0, stderr }),
    (error: { code: number; stderr: string }) => ({ code: error.code, stderr: error.stderr }),
  );
}

function catching(work: () => unknown): Error {
  try {
    work();
  } catch (error) {
    if (error instanceof Error) return error;
  }
  throw new Error("Nothing was thrown.");
}
