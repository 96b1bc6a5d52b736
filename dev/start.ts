import { once } from "node:events";
import { orSay, runningWorld, startWorld } from "./world.ts";

/** `npm run dev`: starts everything, says where, and runs until it is told to stop. */
await orSay(async () => {
  const running = await runningWorld();
  if (running) {
    console.log(`Patchbay runs already at ${running.url} (process ${running.pid}); its API key is ${running.key}`);
    return;
  }
  const world = await startWorld((line) => console.log(line));
  console.log(world.lines.join("\n"));
  await Promise.race(["SIGINT", "SIGTERM"].map((name) => once(process, name)));
  console.log("Stopping…");
  await world.stop();
  process.exit(0);
});
