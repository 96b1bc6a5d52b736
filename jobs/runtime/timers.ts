import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import type { Database } from "../../db/client.ts";
import type { Providers } from "../../routers/ports/index.ts";

export type TimerContext = {
  db: Database;
  providers: Providers;
  log: Logger;
  /** Aborts at the deadline, and when the worker stops. */
  signal: AbortSignal;
};

/** Work of every worker at short intervals. If only one worker may do it at a time, it must take a lock. */
export type Timer = {
  name: string;
  everyMs: number;
  /** 30 s without one. */
  deadlineMs?: number;
  /** `skipped`: another worker does it, or it was not possible; it does not count as a success. */
  run(ctx: TimerContext): Promise<unknown>;
};

type TimerDeps = Omit<TimerContext, "signal"> & {
  /** Called after each run that did not fail. */
  onSuccess?: (name: string) => void;
};

/** Runs each timer until stopped, and never concurrently with itself: a long run delays the next. */
export function startTimers(timers: readonly Timer[], deps: TimerDeps): { stop(): Promise<void> } {
  const stopping = new AbortController();
  const loops = timers.map((timer) => timerLoop(timer, deps, stopping.signal));
  return {
    async stop() {
      stopping.abort();
      await Promise.race([Promise.all(loops), sleep(5_000, undefined, { ref: false })]);
    },
  };
}

const firstWithinMs = 2_000;

async function timerLoop(timer: Timer, deps: TimerDeps, stopping: AbortSignal) {
  const log = deps.log.child({ timer: timer.name });
  // Workers that started together are spread out. The wait is short, because one that replaces a dead worker has a backlog.
  let waitMs = Math.min(timer.everyMs, firstWithinMs) * Math.random();
  while (!stopping.aborted) {
    await sleep(waitMs, undefined, { signal: stopping }).catch(() => {});
    if (stopping.aborted) return;
    const startedAt = performance.now();
    await runOnce(timer, { ...deps, log }, stopping);
    waitMs = Math.max(1, timer.everyMs - (performance.now() - startedAt));
  }
}

async function runOnce(timer: Timer, deps: TimerDeps, stopping: AbortSignal) {
  const deadlineMs = timer.deadlineMs ?? 30_000;
  const late = new AbortController();
  const watch = setTimeout(() => {
    deps.log.error({ deadline_ms: deadlineMs }, "timer past its deadline");
    late.abort(new Error(`The timer ${timer.name} is past its deadline.`));
  }, deadlineMs);
  try {
    const { onSuccess, ...context } = deps;
    const result = await timer.run({ ...context, signal: AbortSignal.any([late.signal, stopping]) });
    if (result !== "skipped" && !late.signal.aborted) onSuccess?.(timer.name);
  } catch (err) {
    if (!stopping.aborted) deps.log.error({ err }, "timer failed");
  } finally {
    clearTimeout(watch);
  }
}
