import "./node-version.ts";
import { MigrationRefused, migrate } from "../db/migrate.ts";
import { EnvironmentProblem, readDatabaseEnv, roleUrls } from "./env.ts";

/**
 * Brings the database of DATABASE_URL to the present. Run it before a new version starts. `--take-logins`: also where
 * another installation on the same server is shut out by it.
 */
try {
  const env = readDatabaseEnv(process.env);
  const takeLogins = process.argv.includes("--take-logins");
  await migrate({ ownerUrl: env.DATABASE_URL, roles: roleUrls(env), takeLogins });
  console.log("The database is current.");
} catch (error) {
  const isSaid = error instanceof EnvironmentProblem || error instanceof MigrationRefused;
  console.error(isSaid ? error.message : error);
  process.exitCode = 1;
}
