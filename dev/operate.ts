import { SetupProblem } from "./simulators/setup-problem.ts";
import { databaseVariables, runCommand, runningWorld } from "./world.ts";

const asksForHelp = process.argv.some((word) => word === "--help" || word === "-h");

/** `npm run operate -- …`: the operator's command. Uses the database of the running local world, or DATABASE_URL. */
await runCommand(async () => {
  const world = await runningWorld();
  if (!world && !process.env.DATABASE_URL && !asksForHelp)
    throw new SetupProblem("Patchbay is not running. Start it with `npm run dev`, or set DATABASE_URL.");
  if (world) Object.assign(process.env, { ...(await databaseVariables(world)), ...process.env });
  await import("../server/operate/main.ts");
});
