import { parseArgs } from "node:util";
import { type ChaosEnd, runChaos } from "./chaos-run.ts";
import { untilOver } from "./interruption.ts";
import type { Manner } from "./plan.ts";
import { table } from "./table.ts";
import { judge, type Verdict } from "./verdict.ts";

const usage =
  "npm run chaos -- [--events 20000] [--endpoints 50] [--seed 1] [--workers 2] [--minutes 10] [--kills n] [--restarts n] [--keep]";
/** The share of the given time; the rest is for unfinished deliveries. */
const stormShare = 0.4;
/** A killed worker's jobs move to another worker after half a minute or more. */
const calmSecondsAtLeast = 90;
const secondsPerKill = 12;
const secondsPerRestart = 60;

/** Exits with 1 when a guarantee was broken. */
async function main() {
  const text = { type: "string" } as const;
  const { values } = parseArgs({
    options: {
      ...{ events: text, endpoints: text, seed: text, workers: text, minutes: text, kills: text, restarts: text },
      keep: { type: "boolean", default: false },
    },
  });
  const whole = (name: keyof typeof values, otherwise: number) => Number(values[name] ?? otherwise);
  const seconds = whole("minutes", 10) * 60;
  const stormSeconds = seconds * stormShare;
  const wanted = {
    events: whole("events", 20_000),
    endpoints: whole("endpoints", 50),
    seed: whole("seed", 1),
    workers: whole("workers", 2),
    kills: whole("kills", Math.max(1, Math.round(stormSeconds / secondsPerKill))),
    restarts: whole("restarts", Math.max(1, Math.round(stormSeconds / secondsPerRestart))),
  };
  const { endpoints, workers } = wanted;
  const inReach = endpoints >= 2 && endpoints <= 500 && workers >= 1 && seconds > 0 && seconds <= 7_200;
  if (!inReach || Object.values(wanted).some((number) => !Number.isSafeInteger(number) || number < 0)) {
    console.error(usage);
    process.exitCode = 2;
    return;
  }

  const began = performance.now();
  const log = (line: string) => console.error(`  ${Math.round((performance.now() - began) / 1000)} s: ${line}`);
  await untilOver(async (stops, over) => {
    const calmSeconds = Math.max(calmSecondsAtLeast, seconds - stormSeconds);
    const end = await runChaos({ ...wanted, stormSeconds, calmSeconds, keep: values.keep, say: log, over }, stops);
    const verdict = judge(end.evidence);
    console.log(summary(wanted, end, verdict));
    if (values.keep) console.log(`The data, the evidence and the workers' output: ${end.home}\n`);
    for (const objection of verdict.objections) console.error(`BROKEN: ${objection}`);
    if (verdict.objections.length > 0) process.exitCode = 1;
  });
}

const most = (counts: number[]) => Math.max(0, ...counts);
const mean = (counts: number[]) => (counts.reduce((sum, one) => sum + one, 0) / Math.max(1, counts.length)).toFixed(1);

function summary(wanted: Record<string, number>, end: ChaosEnd, verdict: Verdict): string {
  const count = (what: string) => end.evidence.disturbances.filter((one) => one.what === what).length;
  const manners = Map.groupBy(end.manners, (manner) => manner);
  const many = (manner: Manner) => `${manners.get(manner)?.length ?? 0} ${manner}`;
  const endpoints = [many("healthy"), many("failing"), many("slow"), many("hanging")].join(", ");
  const rows = [
    ["events committed", verdict.events],
    ["commits with an unknown outcome", end.unknownCommits.settled],
    ["of these committed", end.unknownCommits.found],
    ["deliveries owed", verdict.wanted],
    ["arrived", verdict.taken],
    ["missing", verdict.missing],
    ["unexpected", verdict.unexpected],
    ["requests received", verdict.arrivals],
    ["recorded attempts", verdict.attempts],
    ["duplicates, all with the same id and body", verdict.duplicates],
    ["of these without a cause", verdict.unexcused],
    ["duplicates for each kill, at most", `${mean(verdict.perKill)}, ${most(verdict.perKill)}`],
    ["duplicates for each restart or crash, at most", `${mean(verdict.perRestart)}, ${most(verdict.perRestart)}`],
    ["workers killed", count("kill")],
    ["Postgres restarted, in order", count("fast restart")],
    ["Postgres crashed", count("crash")],
    ["worker pools that restarted", count("pool replaced")],
    ["attempts that could not be recorded", count("not written down")],
    ["seconds of storm", Math.round(end.stormSeconds)],
    ["seconds until everything had arrived", Math.round(end.calmSeconds)],
  ].map(([name, value]) => [name!, `${value}`]);
  return table(`Chaos: seed ${wanted.seed}, ${wanted.workers} workers; ${endpoints}`, ["", ""], rows);
}

await main();
