import { newId } from "../../../db/ids.ts";
import type { Child } from "../child.ts";
import type { BenchOptions, Ground } from "../ground.ts";
import type { Pairs } from "../ledger-worker.ts";
import { best, type Round } from "../rounds.ts";
import type { Figure, Group } from "./figures.ts";

const connections = 16;
const credits = 1_000_000_000_000_000;

/** A hold and its settlement, with one contended account and with a thousand. */
export async function benchLedger(ground: Ground, options: BenchOptions): Promise<Group[]> {
  const environment = { DATABASE_POOL_SIZE: `${connections}` };
  const children: [string, Child][] = [
    ["one plain statement each", await ground.child("./ledger-worker.ts", { ...environment, LEDGER: "bare" })],
    ["ours", await ground.child("./ledger-worker.ts", { ...environment, LEDGER: "ours" })],
  ];
  const groups: Group[] = [];
  for (const accounts of [1, options.quick ? 100 : 1_000]) {
    const clientIds = await openAccounts(ground, accounts);
    const whose = accounts === 1 ? "of one client" : `of ${accounts} clients`;
    const figures = await contest(ground, children, clientIds, options);
    await mustBalance(ground, clientIds);
    groups.push({ work: `ledger: hold and settle, ${whose}, ${connections} connections`, figures });
  }
  return groups;
}

async function contest(ground: Ground, children: [string, Child][], clientIds: string[], options: BenchOptions) {
  const rounds = options.quick ? 1 : 5;
  const taken = new Map<string, Round[]>(children.map(([name]) => [name, []]));
  for (let round = 0; round <= rounds; round++) {
    for (const [name, child] of children) {
      if (round === 0) options.say(`warming up: ${name}`);
      const seconds = round === 0 ? 1 : options.seconds / rounds;
      const [cpuBefore, postgresBefore] = await Promise.all([child.ask<number>("cpu"), ground.postgresCpu()]);
      const seen = await child.ask<{ count: number; seconds: number }>("run", { clientIds, seconds } satisfies Pairs);
      const [cpu, postgres] = await Promise.all([child.ask<number>("cpu"), ground.postgresCpu()]);
      const inPostgres = postgres === null || postgresBefore === null ? null : postgres - postgresBefore;
      if (round > 0) taken.get(name)!.push({ ...seen, cpu: cpu - cpuBefore, postgres: inPostgres });
    }
  }
  const notes = new Map([["ours", "and the events of both"]]);
  return children.map(([name]): Figure => ({ name, ...best(taken.get(name)!), note: notes.get(name) ?? "" }));
}

async function openAccounts({ owner }: Ground, count: number): Promise<string[]> {
  const ids = Array.from({ length: count }, () => newId("client"));
  const names = ["available", "held", "revenue", "purchases", "grants", "adjustments"];
  await owner`insert into clients (id, name) select id, 'Ledger' from unnest(${ids}::text[]) id`;
  await owner`
    insert into ledger_accounts (client_id, name, balance_micros)
    select id, name, case name when 'available' then ${credits}::bigint when 'grants' then ${-credits}::bigint else 0 end
    from unnest(${ids}::text[]) id, unnest(${names}::text[]) name`;
  await owner`analyze`;
  return ids;
}

/** Checks both ledgers: balances sum to zero and match their entries. */
async function mustBalance({ owner }: Ground, ids: string[]) {
  const [seen] = await owner`
    select (select sum(balance_micros) from ledger_accounts where client_id = any(${ids})) as total,
      (select count(*) from holds where client_id = any(${ids}) and status = 'held') as held,
      (select count(*)::int from (
        select a.client_id from ledger_accounts a left join ledger_entries e
          on e.client_id = a.client_id and e.account = a.name
        where a.client_id = any(${ids}) and a.name in ('held', 'revenue')
        group by a.client_id, a.name, a.balance_micros
        having a.balance_micros <> coalesce(sum(e.amount_micros), 0)) wrong) as wrong`;
  const { total, held, wrong } = seen as { total: string; held: string; wrong: number };
  if (Number(total) !== 0 || Number(held) !== 0 || wrong !== 0) {
    throw new Error(`the ledger does not balance: total ${total}, ${held} open holds, ${wrong} wrong accounts`);
  }
}
