import { SetupProblem } from "./setup-problem.ts";
import { orSay, runningWorld } from "./world.ts";

/** `npm run token`: a token of the demo user, from the local issuer of a running world. */
await orSay(async () => {
  const world = await runningWorld();
  if (!world) throw new SetupProblem("Nothing runs: start it with `npm run dev`.");
  if (!world.tokenUrl)
    throw new SetupProblem("The identity provider is not ours (AUTH_ISSUER is set): ask it for a token.");
  const answer = await fetch(world.tokenUrl, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ sub: world.subject, clients: [world.clientId] }),
  });
  if (!answer.ok) throw new Error(`The issuer answered ${answer.status}: ${await answer.text()}`);
  console.log(((await answer.json()) as { access_token: string }).access_token);
});
