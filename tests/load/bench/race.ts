import { join } from "node:path";
import type { Child } from "../child.ts";
import type { BenchOptions, Ground } from "../ground.ts";
import type { Load, Loaded } from "../load-client.ts";
import { best, median, type Round } from "../rounds.ts";
import type { Figure } from "./figures.ts";

/** One server of a comparison. All serve the same requests. */
export type Runner = {
  name: string;
  /** The name of its profile file. */
  profile: string;
  server: Child;
  /** Complete requests, sent in turn. */
  requests: string[];
  note?: string;
};

export type Race = {
  runners: Runner[];
  connections: number;
  status: number;
  /** The warm-up, before the code is compiled, is not measured. */
  warmUp: number;
  /** All runners' bodies have the length of the first one's, within this share. */
  tolerance?: number;
};

type Measured = Round & Pick<Loaded, "p50Ms" | "p95Ms" | "p99Ms" | "refused">;

/** The runners alternate in short rounds, so that a disturbance does not affect only one. */
export async function race(ground: Ground, load: Child, given: Race, options: BenchOptions): Promise<Figure[]> {
  const { seconds, quick, profiles, say: log, object } = options;
  const { runners, connections, status, warmUp } = given;
  const rounds = quick ? 2 : 5;
  const leastBytes = await compareBodies(given, log);
  const taken = new Map<Runner, Measured[]>(runners.map((runner) => [runner, []]));
  const last = profiles === null ? rounds : rounds + 1;
  for (let round = 0; round <= last; round++) {
    for (const runner of runners) {
      const { server, requests, name, profile } = runner;
      const port = await server.ask<number>("port");
      const expect = { status, leastBytes: leastBytes.get(runner)! };
      const measure = (bounds: { seconds: number; count?: number }) =>
        measured(ground, load, runner, { port, requests, connections, expect, ...bounds });
      if (round === 0) {
        log(`warming up: ${name}`);
        await measure({ count: quick ? Math.ceil(warmUp / 5) : warmUp, seconds: 5 });
        continue;
      }
      const watched = profiles !== null && round > rounds;
      if (watched) await server.ask("profile.start");
      const seen = await measure({ seconds: seconds / rounds });
      if (watched) await server.ask("profile.stop", join(profiles, `${profile}.cpuprofile`));
      else taken.get(runner)!.push(seen);
    }
  }
  return runners.map(({ name, note = "" }, place) => {
    const seen = taken.get(runners[place]!)!;
    const refused = seen.reduce((sum, round) => sum + round.refused, 0);
    const notes = [...(note ? [note] : []), ...(refused > 0 ? [`${refused} refused with 503`] : [])];
    if (refused > 0) object(`${runners[place]!.profile}: ${refused} requests were refused with 503`);
    return { name, ...summary(seen), note: notes.join("; ") };
  });
}

/** Requests at a constant rate: the latencies of a server with spare capacity. */
export async function paced(ground: Ground, load: Child, runner: Runner, given: Omit<Load, "port" | "requests">) {
  const port = await runner.server.ask<number>("port");
  return measured(ground, load, runner, { port, requests: runner.requests, ...given });
}

export function summary(rounds: Measured[]): Omit<Figure, "name"> {
  const of = (read: (round: Measured) => number) => median(rounds.map(read));
  return { ...best(rounds), p50Ms: of(({ p50Ms }) => p50Ms), p95Ms: of((r) => r.p95Ms), p99Ms: of((r) => r.p99Ms) };
}

async function measured(ground: Ground, load: Child, { name, server }: Runner, what: Load): Promise<Measured> {
  const [cpuBefore, postgresBefore] = await Promise.all([server.ask<number>("cpu"), ground.postgresCpu()]);
  const { requests: count, wrong, replayed, ...loaded } = await load.ask<Loaded>("run", what);
  const [cpuAfter, postgresAfter] = await Promise.all([server.ask<number>("cpu"), ground.postgresCpu()]);
  const odd = Object.entries(wrong).map(([answer, times]) => `${times} responses of ${answer}`);
  if (replayed > 0) odd.push(`${replayed} replays`);
  if (count === 0) odd.push("no response at all");
  if (odd.length > 0) throw new Error(`${name}: ${odd.join(", ")} (of ${count}; expected ${what.expect.status})`);
  const postgres = postgresAfter === null || postgresBefore === null ? null : postgresAfter - postgresBefore;
  return { ...loaded, count, cpu: cpuAfter - cpuBefore, postgres };
}

/**
 * Calls every runner once first. The status must be right and the body JSON, and no runner may be cheaper because it returns
 * less. Returns the minimum body length of each.
 */
async function compareBodies({ runners, status, tolerance = 0.25 }: Race, log: BenchOptions["say"]) {
  const sizes = new Map<Runner, number>();
  for (const runner of runners) {
    const port = await runner.server.ask<number>("port");
    const response = await ask(port, runner.requests[0]!);
    if (response.status !== status) throw new Error(`${runner.name}: ${response.status} ${response.text}`);
    JSON.parse(response.text);
    sizes.set(runner, Buffer.byteLength(response.text));
  }
  log(`bytes: ${[...sizes].map(([{ name }, bytes]) => `${name} ${bytes}`).join(", ")}`);
  const [smallest, largest] = [Math.min(...sizes.values()), Math.max(...sizes.values())];
  if (smallest < largest * (1 - tolerance)) throw new Error("the runners do not return the same: see the sizes above");
  return new Map([...sizes].map(([runner, bytes]) => [runner, Math.floor(bytes * 0.9)]));
}

async function ask(port: number, text: string) {
  const [head, body] = text.split("\r\n\r\n") as [string, string];
  const [first, ...lines] = head.split("\r\n") as [string, ...string[]];
  const [method, path] = first.split(" ") as [string, string];
  const kept = lines.filter((line) => !/^(host|content-length):/i.test(line));
  const headers = kept.map((line) => line.split(": ") as [string, string]);
  const once = headers.map(([name, value]): [string, string] => [name, value.replaceAll("%n%", `once-${Date.now()}`)]);
  const response = await fetch(`http://127.0.0.1:${port}${path}`, {
    method,
    headers: once,
    ...(body === "" ? {} : { body: body.replaceAll("%n%", `once-${Date.now()}`) }),
  });
  return { status: response.status, text: await response.text() };
}
