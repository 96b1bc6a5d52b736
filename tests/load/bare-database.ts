import { runMigrations } from "graphile-worker";
import type { Ground } from "./ground.ts";

/** Creates a database with only the queue of the library. Returns its URL. */
export async function bareDatabase({ owner, environment }: Pick<Ground, "owner" | "environment">): Promise<string> {
  await owner`create database bench_bare`;
  const url = new URL(environment.DATABASE_URL);
  url.pathname = "/bench_bare";
  await runMigrations({ connectionString: url.href });
  return url.href;
}
