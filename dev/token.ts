import { SetupProblem } from "./simulators/setup-problem.ts";
import { runCommand, runningWorld } from "./world.ts";

/** `npm run token`: prints a token of the demo user, from the identity provider of the running local world. */
await runCommand(async () => {
  const world = await runningWorld();
  if (!world) throw new SetupProblem("Patchbay is not running. Start it with `npm run dev`.");
  if (!world.tokenUrl)
    throw new SetupProblem("The identity provider is not simulated (AUTH_ISSUER is set). Get a token from it.");
  const response = await fetch(world.tokenUrl, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ sub: world.subject, clients: [world.clientId] }),
  });
  if (!response.ok) throw new Error(`The identity provider responded ${response.status}: ${await response.text()}`);
  console.log(((await response.json()) as { access_token: string }).access_token);
});
