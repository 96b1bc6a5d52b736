import { parseArgs } from "node:util";
import { openGround } from "./ground.ts";
import { untilOver } from "./interruption.ts";
import { openMixture } from "./load-mixture.ts";
import { judgeLoad, type Sample } from "./load-verdict.ts";

const usage = "npm run load -- [--minutes 10] [--scale 1]";
const sliceSeconds = 10;
const warmUpSeconds = 20;

/**
 * API and worker in separate processes under reads, writes, events, deliveries and provider messages, for a long time. Exits
 * with 1 when a request or a job failed, memory grows, or an event loop is late.
 */
async function main() {
  const { values } = parseArgs({ options: { minutes: { type: "string" }, scale: { type: "string" } } });
  const [minutes, scale] = [Number(values.minutes ?? 10), Number(values.scale ?? 1)];
  if (!(minutes > 0 && minutes <= 600 && scale > 0 && scale <= 100)) {
    console.error(usage);
    process.exitCode = 2;
    return;
  }
  await untilOver(async (stops, over) => {
    const ground = await openGround(stops);
    const mixture = await openMixture(ground, scale);
    console.error("  warming up");
    await mixture.run(warmUpSeconds);
    await mixture.startWatch();
    const samples: Sample[] = [];
    const began = performance.now();
    while (performance.now() - began < minutes * 60_000) {
      over.throwIfAborted();
      const work = await mixture.run(sliceSeconds);
      const sample = { seconds: Math.round((performance.now() - began) / 1000), work, ...(await mixture.vitals()) };
      samples.push(sample);
      const { api, worker } = sample;
      console.error(
        `  ${sample.seconds} s: API ${api.rssMb.toFixed(0)} MB, worker ${worker.rssMb.toFixed(0)} MB, ` +
          `lag p99 ${api.lagP99Ms.toFixed(0)} and ${worker.lagP99Ms.toFixed(0)} ms, errors ${JSON.stringify(work.errors)}`,
      );
    }
    const left = await mixture.settle();
    const { text, objections } = judgeLoad(samples, left, minutes);
    console.log(text);
    for (const objection of objections) console.error(`BROKEN: ${objection}`);
    if (objections.length > 0) process.exitCode = 1;
  });
}

await main();
