import type { Child } from "../child.ts";
import { callEvents, openCustomers } from "../customers.ts";
import type { Emitting } from "../emitter.ts";
import type { BenchOptions, Ground } from "../ground.ts";
import { best, type Round } from "../rounds.ts";
import type { Group } from "./figures.ts";

const connections = 16;

/** Written events, compared with the same rows in one plain statement. No worker runs: only writing is measured. */
export async function benchEmit(ground: Ground, { seconds, quick, say: log }: BenchOptions): Promise<Group[]> {
  const rounds = quick ? 1 : 5;
  const endpoints = Array.from({ length: connections }, () => [callEvents[0]!]);
  const customers = await openCustomers(ground, { clients: connections, endpoints, url: "http://127.0.0.1:9" });
  const clientIds = customers.map(({ clientId }) => clientId);
  const environment = { DATABASE_POOL_SIZE: `${connections}` };
  const ours = await ground.child("./emitter.ts", { ...environment, EMITTER: "ours" });
  const children: [string, Child][] = [
    ["bare SQL, one statement", await ground.child("./emitter.ts", { ...environment, EMITTER: "bare" })],
    ["ours", ours],
  ];
  const taken = new Map<string, Round[]>(children.map(([name]) => [name, []]));
  for (let round = 0; round <= rounds; round++) {
    for (const [name, child] of children) {
      if (round === 0) log(`warming up: ${name}`);
      const seen = await measured(ground, child, { clientIds, seconds: round === 0 ? 1 : seconds / rounds });
      if (round > 0) taken.get(name)!.push(seen);
    }
  }
  const figures = children.map(([name]) => ({ name, ...best(taken.get(name)!) }));
  return [{ work: `events written, ${connections} connections`, figures }];
}

async function measured(ground: Ground, child: Child, what: Emitting): Promise<Round> {
  const { owner } = ground;
  await owner`truncate event_fan_outs`;
  const rows = async () => {
    const [seen] = await owner`
      select (select count(*)::int from events) as events, (select count(*)::int from event_fan_outs) as waiting`;
    return seen as unknown as { events: number; waiting: number };
  };
  const before = await rows();
  const [cpuBefore, postgresBefore] = await Promise.all([child.ask<number>("cpu"), ground.postgresCpu()]);
  const seen = await child.ask<{ count: number; seconds: number }>("run", what);
  const [cpu, postgres] = await Promise.all([child.ask<number>("cpu"), ground.postgresCpu()]);
  const after = await rows();
  const grown = after.events - before.events;
  if (grown !== seen.count || after.waiting !== grown)
    throw new Error(`${grown} events of ${seen.count} were written, and ${after.waiting} wait for their fan-out`);
  const inPostgres = postgres === null || postgresBefore === null ? null : postgres - postgresBefore;
  return { ...seen, cpu: cpu - cpuBefore, postgres: inPostgres };
}
