import { SetupProblem } from "../simulators/setup-problem.ts";
import { failureOf, run } from "./system.ts";

export type Account = { uid: number; gid: number };

export async function postgresAccount(): Promise<Account> {
  const known = await accountNamed("postgres");
  if (known) return known;
  const failure =
    (await failureOf("groupadd", ["-f", "postgres"])) ?? (await failureOf("useradd", ["-g", "postgres", "postgres"]));
  const created = await accountNamed("postgres");
  if (created) return created;
  throw new SetupProblem(
    "Postgres refuses to run as root and the user postgres could not be created. Run as another user, or create it. " +
      `(${failure})`,
  );
}

async function accountNamed(name: string): Promise<Account | undefined> {
  // `id` fails for one reason only: there is no such user.
  const ids = await Promise.all(["-u", "-g"].map((which) => run("id", [which, name]))).catch(() => undefined);
  const [uid, gid] = ids?.map(({ stdout }) => Number(stdout)) ?? [];
  return uid === undefined || gid === undefined ? undefined : { uid, gid };
}
