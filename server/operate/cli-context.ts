import { ConnectionLost, type Database, DatabaseBusy, openDatabase } from "../../db/client.ts";
import { ApiError } from "../../routers/core/errors.ts";
import { EnvironmentProblem, readDatabaseEnv, roleUrls } from "../env.ts";

/** What a verb of the operator's command works with. */
export type CliContext = { db: Database; say: (line: string) => void; clear: () => void };

/** Gives the hands for as long as the work takes. What goes wrong is one sentence, and exit code 1. */
export async function withCliContext(
  variables: Record<string, string | undefined>,
  work: (hands: CliContext) => Promise<void>,
): Promise<void> {
  try {
    const db = openDatabase({ ...roleUrls(readDatabaseEnv(variables)), size: 2 });
    const say = (line: string) => void process.stdout.write(`${line}\n`);
    const clear = () => void (process.stdout.isTTY && process.stdout.write("\x1b[2J\x1b[H"));
    try {
      await work({ db, say, clear });
    } finally {
      await db.close();
    }
  } catch (error) {
    process.stderr.write(`${reasonOf(error)}\n`);
    process.exitCode = 1;
  }
}

/** Of PostgreSQL: a table or a function that is not there. */
const absent = ["42P01", "42883"];

/** Why it could not be done, in a sentence; of a bug all that is known. */
function reasonOf(error: unknown): string {
  if (error instanceof ApiError || error instanceof EnvironmentProblem) return error.message;
  const chain = causes(error);
  const codes = chain.map((each) => ("code" in each ? String(each.code) : ""));
  if (codes.some((code) => absent.includes(code)))
    return "The database is older than this command: bring it up to date with `node server/migrate.js` first.";
  const lost = chain.some((each) => each instanceof ConnectionLost || each instanceof DatabaseBusy);
  if (lost || codes.some((code) => /^(E[A-Z]+|08|28|57P|3D)/.test(code)))
    return `The database could not be asked: ${chain.at(-1)!.message} Does it run, and does DATABASE_URL name it?`;
  return chain[0]?.stack ?? String(error);
}

function causes(error: unknown): Error[] {
  return error instanceof Error ? [error, ...causes(error.cause)] : [];
}
