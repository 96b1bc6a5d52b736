import { randomBytes } from "node:crypto";
import postgres from "postgres";
import { inject } from "vitest";
import { roleUrls } from "../../server/env.ts";
import { templateName } from "./postgres.ts";

/** A database cloned from the migrated template. */
export async function cloneDatabase() {
  const ownerUrl = new URL(inject("ownerUrl"));
  const name = `t_${randomBytes(6).toString("hex")}`;
  const root = postgres(ownerUrl.href, { max: 1, onnotice: () => {} });
  await root.unsafe(`create database ${name} template ${templateName}`);
  // Rights on a database are not copied from its template. db/grants.sql revoked this one on the template.
  await root.unsafe(`revoke temporary on database ${name} from public`);
  const url = new URL(ownerUrl);
  url.pathname = `/${name}`;
  return {
    url: url.href,
    roles: roleUrls({ DATABASE_URL: url.href, APP_SECRET: inject("appSecret") }),
    async drop() {
      await root.unsafe(`drop database if exists ${name} with (force)`);
      await root.end();
    },
  };
}
