import { migrate } from "../db/migrate.ts";
import { EnvironmentProblem, readEnv, roleUrls } from "./env.ts";

/** Brings the database of DATABASE_URL to the present. Run it before a new version starts. */
try {
  const env = readEnv(process.env);
  await migrate({ ownerUrl: env.DATABASE_URL, roles: roleUrls(env) });
  console.log("The database is current.");
} catch (error) {
  console.error(error instanceof EnvironmentProblem ? error.message : error);
  process.exitCode = 1;
}
