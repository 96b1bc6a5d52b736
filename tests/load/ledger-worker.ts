import postgres from "postgres";
import { newId } from "../../db/ids.ts";
import { fundsOf, holdCredits, settleBill } from "../../routers/billing/ledger.ts";
import { openDeps } from "../../server/deps.ts";
import { readEnv } from "../../server/env.ts";
import { given, serve } from "./child.ts";

export type Pairs = { clientIds: string[]; seconds: number };

const held = 105_000_000;
const captured = 6_000_000;
const connections = Number(given("DATABASE_POOL_SIZE"));

/** A hold, and the bill that settles it, each in its own commit. */
const pair = given("LEDGER") === "ours" ? ofOurs() : ofBare();

async function run({ clientIds, seconds }: Pairs) {
  const began = performance.now();
  const until = began + seconds * 1000;
  let count = 0;
  const loop = async () => {
    while (performance.now() < until) {
      const place = count++;
      await pair.run(clientIds[place % clientIds.length]!);
    }
  };
  await Promise.all(Array.from({ length: connections }, loop));
  return { count, seconds: (performance.now() - began) / 1000 };
}

serve({ run }, () => pair.close());

function ofOurs() {
  const deps = openDeps(readEnv(process.env));
  return {
    close: () => deps.close(),
    async run(clientId: string) {
      const subjectId = newId("call");
      await deps.db.asClient({ clientId }, async (tx) => holdCredits(tx, subjectId, held, await fundsOf(tx)));
      await deps.db.asClient({ clientId }, (tx) => settleBill(tx, subjectId, 1, () => captured));
    },
  };
}

/** The same rows without events and tenant isolation: one statement each, balances in the order of their names. */
function ofBare() {
  const sql = postgres(given("DATABASE_URL"), { max: connections, onnotice: () => {} });
  const close = () => sql.end({ timeout: 1 });
  return {
    close,
    async run(clientId: string) {
      const subjectId = newId("call");
      const [taken] = await sql`
        with amounts(name, amount) as (values ('available', ${-held}::bigint), ('held', ${held}::bigint)),
        locked as (
          select a.name, a.balance_micros from ledger_accounts a
          where a.client_id = ${clientId} and a.name in ('available', 'held') order by a.name for no key update
        ), covered as (
          select (select id from prices where client_id is null limit 1) as price from locked
          where name = 'available' and balance_micros >= ${held}
        ), moved as (
          update ledger_accounts a set balance_micros = a.balance_micros + amounts.amount
          from amounts, locked, covered where a.client_id = ${clientId} and a.name = amounts.name and a.name = locked.name
        ), posted as (
          insert into ledger_transactions (client_id, id, kind, source_id, subject_id, price_id)
          select ${clientId}, ${newId("transaction")}, 'hold', ${subjectId}, ${subjectId}, price from covered returning id
        ), entered as (
          insert into ledger_entries (client_id, transaction_id, account, amount_micros)
          select ${clientId}, id, name, amount from posted, amounts
        )
        insert into holds (client_id, subject_id, price_id, amount_micros)
        select ${clientId}, ${subjectId}, price, ${held} from covered returning 1 as held`;
      if (!taken) throw new Error("the plain hold was not covered");
      const [settled] = await sql`
        with amounts(name, amount) as (
          values ('available', ${held - captured}::bigint), ('held', ${-held}::bigint), ('revenue', ${captured}::bigint)
        ), closed as (
          update holds set status = 'settled', captured_micros = ${captured}
          where client_id = ${clientId} and subject_id = ${subjectId} and status = 'held' returning price_id
        ), locked as (
          select a.name from ledger_accounts a, closed
          where a.client_id = ${clientId} and a.name in ('available', 'held', 'revenue') order by a.name
          for no key update of a
        ), moved as (
          update ledger_accounts a set balance_micros = a.balance_micros + amounts.amount
          from amounts, locked where a.client_id = ${clientId} and a.name = amounts.name and a.name = locked.name
        ), posted as (
          insert into ledger_transactions (client_id, id, kind, source_id, subject_id, price_id)
          select ${clientId}, ${newId("transaction")}, 'settlement', ${`${subjectId}:1`}, ${subjectId}, price_id
          from closed returning id
        )
        insert into ledger_entries (client_id, transaction_id, account, amount_micros)
        select ${clientId}, id, name, amount from posted, amounts returning 1 as entered`;
      if (!settled) throw new Error("the plain bill was not settled");
    },
  };
}
