import { randomBytes } from "node:crypto";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import type { TestProject } from "vitest/node";
import { migrate } from "../../db/migrate.ts";
import { noDurability, startPostgres } from "../../dev/postgres.ts";
import { roleUrls } from "../../server/env.ts";

declare module "vitest" {
  interface ProvidedContext {
    ownerUrl: string;
    appSecret: string;
  }
}

export const templateName = "patchbay_template";

/** One Postgres for the whole run: TEST_DATABASE_URL, or a new one. Each test file clones the migrated template. */
export default async function setup({ provide }: TestProject) {
  const appSecret = process.env.TEST_APP_SECRET ?? randomBytes(32).toString("base64");
  const given = process.env.TEST_DATABASE_URL;
  const dataDir = given ? null : await mkdtemp(join(tmpdir(), "patchbay-test-"));
  if (dataDir) await chmod(dataDir, 0o755); // as root, Postgres runs as another user and needs access
  const server = dataDir
    ? await startPostgres({
        dataDir: join(dataDir, "data"),
        port: 0,
        settings: { ...noDurability, max_connections: "400" },
        database: "postgres",
      })
    : null;
  const ownerUrl = server?.url ?? given!;

  const owner = postgres(ownerUrl, { max: 1, onnotice: () => {} });
  await owner.unsafe(`drop database if exists ${templateName}`);
  await owner.unsafe(`create database ${templateName}`);
  await owner.end();
  const template = new URL(ownerUrl);
  template.pathname = `/${templateName}`;
  const roles = roleUrls({ DATABASE_URL: template.href, APP_SECRET: appSecret });
  await migrate({ ownerUrl: template.href, roles, takeLogins: true }); // an earlier run may have been killed

  provide("ownerUrl", ownerUrl);
  provide("appSecret", appSecret);
  return async () => {
    await server?.stop();
    if (dataDir) await rm(dataDir, { recursive: true, force: true });
  };
}
