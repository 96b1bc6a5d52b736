import { once } from "node:events";
import { runCommand, runningWorld, startWorld } from "./world.ts";

/** `npm run dev`: starts everything, prints the addresses, and runs until it is stopped. */
await runCommand(async () => {
  const running = await runningWorld();
  if (running) {
    console.log(
      `Patchbay is already running at ${running.url} (process ${running.pid}); its API key is ${running.key}`,
    );
    return;
  }
  const world = await startWorld((line) => console.log(line));
  console.log(world.lines.join("\n"));
  await Promise.race(["SIGINT", "SIGTERM"].map((name) => once(process, name)));
  console.log("Stopping…");
  await world.stop();
  process.exit(0);
});
