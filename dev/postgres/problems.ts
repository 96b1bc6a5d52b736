import { dirname } from "node:path";
import { SetupProblem } from "../simulators/setup-problem.ts";
import { codeOf } from "./system.ts";

/** Another attempt can succeed. After the last attempt the message is shown. */
export class TemporaryProblem extends SetupProblem {}

export function unwritable(dataDir: string, error: unknown): SetupProblem {
  return new SetupProblem(
    `Postgres cannot keep its data in ${dataDir} (${codeOf(error)}): make ${dirname(dataDir)} writable for this user, ` +
      "or choose another data directory.",
    { cause: error },
  );
}
