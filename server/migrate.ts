import "./node-version.ts";
import { MigrationRefused, migrate } from "../db/migrate.ts";
import { EnvironmentProblem, readDatabaseEnv, roleUrls } from "./env.ts";

/**
 * Migrates the database of DATABASE_URL. Run it before a new version starts. With `--take-logins` it also runs when another
 * installation on the same server loses its logins by it.
 */
try {
  const env = readDatabaseEnv(process.env);
  const takeLogins = process.argv.includes("--take-logins");
  await migrate({ ownerUrl: env.DATABASE_URL, roles: roleUrls(env), takeLogins });
  console.log("The database is up to date.");
} catch (error) {
  const isExpected = error instanceof EnvironmentProblem || error instanceof MigrationRefused;
  console.error(isExpected ? error.message : error);
  process.exitCode = 1;
}
