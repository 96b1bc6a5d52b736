import { ConnectionLost, type Database, DatabaseBusy, openDatabase } from "../../db/client.ts";
import { ApiError } from "../../routers/core/errors.ts";
import { EnvironmentProblem, readDatabaseEnv, roleUrls } from "../env.ts";
import { printable } from "./table.ts";

/** What an operator's command works with. */
export type CliContext = { db: Database; print: (line: string) => void; clear: () => void };

/** Opens the database for the duration of the work. An error is printed as one sentence, and sets exit code 1. */
export async function withCliContext(
  variables: Record<string, string | undefined>,
  work: (context: CliContext) => Promise<void>,
): Promise<void> {
  try {
    const db = openDatabase({ ...roleUrls(readDatabaseEnv(variables)), size: 2 });
    const print = (line: string) => void process.stdout.write(`${printable(line, "\n")}\n`);
    const clear = () => void (process.stdout.isTTY && process.stdout.write("\x1b[2J\x1b[H"));
    try {
      await work({ db, print, clear });
    } finally {
      await db.close();
    }
  } catch (error) {
    process.stderr.write(`${printable(reasonOf(error), "\n")}\n`);
    process.exitCode = 1;
  }
}

/** PostgreSQL: undefined table or function. */
const undefinedCodes = ["42P01", "42883"];

/** The reason in a sentence; for a bug the whole stack. */
function reasonOf(error: unknown): string {
  if (error instanceof ApiError || error instanceof EnvironmentProblem) return error.message;
  const chain = causes(error);
  const codes = chain.map((each) => ("code" in each ? String(each.code) : ""));
  if (codes.some((code) => undefinedCodes.includes(code)))
    return "The database is older than this command. Run `node server/migrate.js` first.";
  const lost = chain.some((each) => each instanceof ConnectionLost || each instanceof DatabaseBusy);
  if (lost || codes.some((code) => /^(E[A-Z]+|08|28|57P|3D)/.test(code)))
    return `The database is unreachable: ${chain.at(-1)!.message} Is it running, and is DATABASE_URL correct?`;
  return chain[0]?.stack ?? String(error);
}

function causes(error: unknown): Error[] {
  return error instanceof Error ? [error, ...causes(error.cause)] : [];
}
