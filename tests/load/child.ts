import { fork } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { Session } from "node:inspector/promises";
import { monitorEventLoopDelay } from "node:perf_hooks";

type Question = { id: number; verb: string; input: unknown };
type Reply = { id: number; value?: unknown; error?: string };
type Verbs = Record<string, (input: never) => unknown>;

/** A process of the benchmark: called by function name, measured separately. */
export type Child = {
  ask<T>(verb: string, input?: unknown): Promise<T>;
  stop(): Promise<void>;
  /** SIGKILL, without a clean end. Resolves when it has ended. */
  kill(): Promise<void>;
  /** Resolves when it has ended, for any reason. */
  readonly gone: Promise<void>;
};

const stopMs = 10_000;
/** Longer than any call takes on a busy machine. */
const answerMs = 300_000;

/** Starts a file of this folder in a separate process, which ends with this one. Its output goes to `output`. */
export async function startChild(
  file: string,
  environment: Record<string, string> = {},
  output: string | null = null,
): Promise<Child> {
  const written = output === null ? null : openSync(output, "a");
  const process_ = fork(new URL(file, import.meta.url), [], {
    env: { PATH: process.env.PATH ?? "", NODE_ENV: "production", ...environment },
    execArgv: [],
    stdio: ["ignore", written ?? "ignore", written ?? "inherit", "ipc"],
  });
  if (written !== null) closeSync(written);
  const gone = new Promise<void>((resolve) => process_.once("exit", () => resolve()));
  const waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  let requests = 0;
  process_.on("message", ({ id, value, error }: Reply) => {
    const waiter = waiting.get(id);
    waiting.delete(id);
    if (error === undefined) waiter?.resolve(value);
    else waiter?.reject(new Error(`${file}: ${error}`));
  });
  process_.once("exit", (code, signal) => {
    for (const { reject } of waiting.values()) reject(new Error(`${file} ended (${signal ?? code})`));
    waiting.clear();
  });
  const ask = <T>(verb: string, input?: unknown) =>
    new Promise<T>((resolve, reject) => {
      if (process_.exitCode !== null || !process_.connected) return reject(new Error(`${file} has ended`));
      const id = ++requests;
      const late = setTimeout(() => reject(new Error(`${file} did not respond to "${verb}" in time`)), answerMs);
      const settled = (settle: () => void) => {
        clearTimeout(late);
        settle();
      };
      waiting.set(id, {
        resolve: (value) => settled(() => resolve(value as T)),
        reject: (error) => settled(() => reject(error)),
      });
      process_.send({ id, verb, input } satisfies Question);
    });
  return {
    ask,
    async stop() {
      if (process_.exitCode !== null || process_.signalCode !== null) return;
      const late = setTimeout(() => process_.kill("SIGKILL"), stopMs);
      if (process_.connected) process_.disconnect();
      await gone;
      clearTimeout(late);
    },
    async kill() {
      process_.kill("SIGKILL");
      await gone;
    },
    gone,
  };
}

/** The child's side: serves these functions to the parent, and ends with it. `close` runs at the end. */
export function serve(verbs: Verbs, close: () => Promise<unknown> = async () => {}) {
  const known = { ...watching(), ...verbs } as Record<string, (input: unknown) => unknown>;
  process.on("message", async ({ id, verb, input }: Question) => {
    const reply = await Promise.resolve()
      .then(() => known[verb]!(input))
      .then(
        (value): Reply => ({ id, value }),
        (error): Reply => ({ id, error: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
      );
    process.send?.(reply);
  });
  process.once("disconnect", () => {
    setTimeout(() => process.exit(1), stopMs).unref();
    close().then(
      () => process.exit(0),
      () => process.exit(1),
    );
  });
}

/** A value that the parent passed to this child. */
export function given(name: string): string {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} was not given to this process`);
  return value;
}

export type Vitals = { rssMb: number; heapMb: number; lagP99Ms: number; lagWorstMs: number };

const lagResolutionMs = 5;

/** Available in every child: processor time in microseconds, and a profile. */
function watching() {
  const session = new Session();
  const lag = monitorEventLoopDelay({ resolution: lagResolutionMs });
  return {
    ready: () => true,
    cpu: () => {
      const { user, system } = process.cpuUsage();
      return user + system;
    },
    "lag.start": () => {
      lag.reset();
      lag.enable();
    },
    /** Current memory, and event loop delay since `lag.start`. */
    vitals: (): Vitals => {
      const { rss, heapUsed } = process.memoryUsage();
      const late = (nanoseconds: number) => Math.max(0, nanoseconds / 1e6 - lagResolutionMs);
      const [rssMb, heapMb] = [rss / 2 ** 20, heapUsed / 2 ** 20];
      return { rssMb, heapMb, lagP99Ms: late(lag.percentile(99)), lagWorstMs: late(lag.max) };
    },
    async "profile.start"() {
      session.connect();
      await session.post("Profiler.enable");
      await session.post("Profiler.setSamplingInterval", { interval: 200 });
      await session.post("Profiler.start");
    },
    async "profile.stop"(file: string) {
      const { profile } = await session.post("Profiler.stop");
      session.disconnect();
      await writeFile(file, JSON.stringify(profile));
    },
  };
}
