import type { Vitals } from "./child.ts";
import type { Left, Work } from "./load-mixture.ts";
import { median } from "./rounds.ts";
import { table } from "./table.ts";

export type Sample = { seconds: number; work: Work; api: Vitals; worker: Vitals };

const lagMs = 50;
/** Memory is stable if its last fifth exceeds its second by no more than this. The first fifth fills caches. */
const growth = { share: 0.15, mb: 20 };
/** A shorter run cannot distinguish growth from warm-up. */
const minutesForMemory = 5;

/** The samples as a table, and every problem. */
export function judgeLoad(samples: Sample[], left: Left, minutes: number): { text: string; objections: string[] } {
  const objections = [...errorsOf(samples), ...leftovers(left)];
  const rows = (["api", "worker"] as const).map((who) => {
    const { early, late } = memoryOf(samples, who);
    const { lagP99Ms, lagWorstMs } = samples.at(-1)![who];
    const limit = early * (1 + growth.share) + growth.mb;
    if (minutes >= minutesForMemory && late > limit) {
      objections.push(`${who}: ${Math.round(early)} MB have become ${Math.round(late)}`);
    }
    if (lagP99Ms >= lagMs) objections.push(`${who}: the event loop is late by ${Math.round(lagP99Ms)} ms (p99)`);
    const peak = Math.max(...samples.map((sample) => sample[who].rssMb));
    return [who, early, late, peak, samples.at(-1)![who].heapMb, lagP99Ms, lagWorstMs] as const;
  });
  const requests = samples.reduce((sum, { work }) => sum + work.requests, 0);
  const p99Ms = median(samples.map(({ work }) => work.p99Ms));
  const errors = errorsOf(samples).length === 0 ? "no error" : "errors, see below";
  const title = `Load: ${minutes} minutes, ${requests} requests, ${errors}; p99 of the slowest kind ${Math.round(p99Ms)} ms (median slice)`;
  const heads = ["", "RSS early, MB", "RSS late, MB", "peak, MB", "heap, MB", "lag p99, ms", "lag worst, ms"];
  return { text: table(title, heads, rows), objections };
}

function memoryOf(samples: Sample[], who: "api" | "worker") {
  const rss = samples.map((sample) => sample[who].rssMb);
  const fifth = Math.max(1, Math.floor(rss.length / 5));
  return {
    early: median(rss.slice(fifth, 2 * fifth).concat(rss.length < 2 ? rss : [])),
    late: median(rss.slice(-fifth)),
  };
}

function errorsOf(samples: Sample[]): string[] {
  const total = new Map<string, number>();
  for (const { work } of samples) {
    for (const [what, count] of Object.entries(work.errors)) total.set(what, (total.get(what) ?? 0) + count);
  }
  return [...total].map(([what, count]) => `${count} times ${what}`);
}

function leftovers({ pending, jobsGivenUp, messagesFailed, logErrors }: Left): string[] {
  return [
    ...(pending > 0 ? [`${pending} deliveries or messages were never done`] : []),
    ...(jobsGivenUp > 0 ? [`${jobsGivenUp} jobs were given up`] : []),
    ...(messagesFailed > 0 ? [`${messagesFailed} messages could not be applied`] : []),
    ...Object.entries(logErrors).map(([message, count]) => `${count} times in the logs: ${message}`),
  ];
}
