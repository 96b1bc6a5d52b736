import { spreadOf } from "../connections.ts";
import type { BenchOptions, Ground } from "../ground.ts";
import { measurePace, openStage, type Stage } from "../pace.ts";
import type { Figure, Group } from "./figures.ts";

const rates = [100, 300, 500, 1_000];
const warmUpSeconds = 5;
const patienceMs = 60_000;
const never = new AbortController().signal;

/** Events committed at a constant rate and delivered by one worker: the latency of each, and failures. */
export async function benchDelivered(ground: Ground, { quick, say: log, seconds }: BenchOptions): Promise<Group[]> {
  const stage = await openStage(ground, { clients: 10, endpointsEach: 5, workers: 1 });
  log("warming up");
  const pace = { patienceMs: quick ? 20_000 : patienceMs, over: never };
  await measurePace(ground, stage, stage.customers, { seconds: quick ? 1 : warmUpSeconds, rate: 100, ...pace });
  await ground.owner`analyze`;
  const figures: Figure[] = [];
  for (const rate of rates) {
    log(`${rate} a second`);
    figures.push(await atRate(ground, stage, { rate, seconds: quick ? 3 : Math.max(10, seconds), ...pace }));
  }
  return [{ work: "events delivered, from commit to receipt, 50 endpoints", figures }];
}

async function atRate(ground: Ground, stage: Stage, pace: Parameters<typeof measurePace>[3]): Promise<Figure> {
  const [worker] = stage.workers;
  const used = () => Promise.all([worker!.ask<number>("cpu"), ground.postgresCpu()]);
  const [cpuBefore, postgresBefore] = await used();
  const seen = await measurePace(ground, stage, stage.customers, pace);
  const [cpu, postgres] = await used();
  const all = [...seen.latencies.values()].flat();
  const count = Math.max(1, all.length);
  const failed = Object.entries(seen.failed).map(([why, times]) => `${times} commits failed (${why})`);
  const odd = [
    ...failed,
    ...(seen.missing > 0 ? [`${seen.missing} not delivered in time`] : []),
    ...(seen.late > 0.01 ? [`${Math.round(seen.late * 100)} % of the commits late`] : []),
    `p95 from when it was due ${Math.round(spreadOf(seen.fromDue).p95Ms)} ms`,
  ];
  const inPostgres = postgres === null || postgresBefore === null ? null : (postgres - postgresBefore) / count;
  const { p50Ms, p95Ms, p99Ms } = spreadOf(all);
  const each = { perSecond: seen.perSecond, cpu: (cpu - cpuBefore) / count, postgres: inPostgres };
  return { name: `ours, ${pace.rate} a second`, isPaced: true, ...each, p50Ms, p95Ms, p99Ms, note: odd.join("; ") };
}
