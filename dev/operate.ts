import { SetupProblem } from "./setup-problem.ts";
import { databaseVariables, orSay, runningWorld } from "./world.ts";

const asksForHelp = process.argv.some((word) => word === "--help" || word === "-h");

/** `npm run operate -- …`: the operator's command, over the database of a running world or of the environment. */
await orSay(async () => {
  const world = await runningWorld();
  if (!world && !process.env.DATABASE_URL && !asksForHelp)
    throw new SetupProblem("Nothing runs: start it with `npm run dev`, or name a database in DATABASE_URL.");
  if (world) Object.assign(process.env, { ...(await databaseVariables(world)), ...process.env });
  await import("../server/operate.ts");
});
