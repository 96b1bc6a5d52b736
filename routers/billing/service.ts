import { and, desc, eq, lt, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { type Given, pages } from "../../db/prepared.ts";
import { holds, ledgerEntries, ledgerTransactions } from "../../db/schema/billing.ts";
import { ApiError } from "../core/errors.ts";
import { toIso } from "../core/fields.ts";
import { type ListKey, readCursor, toPage } from "../core/pagination.ts";
import { fundsOf } from "./ledger.ts";
import type { CurrentPrice, LedgerTransaction, ListLedger } from "./schema.ts";

type Entry = LedgerTransaction["entries"][number];

const entriesOf = sql<Entry[]>`(
  select json_agg(json_build_object('account', e.account, 'amountMicros', e.amount_micros) order by e.account)
  from ${ledgerEntries} e where e.client_id = ${ledgerTransactions.clientId} and e.transaction_id = ${ledgerTransactions.id})`;

const transactionPages = pages((db, given: Given<"subjectId">) =>
  db
    .select({ transaction: ledgerTransactions, entries: entriesOf })
    .from(ledgerTransactions)
    .where(
      and(
        given.before && lt(ledgerTransactions.id, given.before),
        given.subjectId && eq(ledgerTransactions.subjectId, given.subjectId),
      ),
    )
    .orderBy(desc(ledgerTransactions.id))
    .limit(sql.placeholder("limit")),
);

export async function listLedger(tx: Tx, { limit, cursor, subjectId }: ListLedger, key: ListKey) {
  const before = readCursor(key, cursor);
  if (subjectId) {
    const [held] = await tx.select({ id: holds.subjectId }).from(holds).where(eq(holds.subjectId, subjectId));
    if (!held) throw new ApiError("resource_not_found", `There are no transactions for ${subjectId}.`);
  }
  const rows = await transactionPages(tx, { subjectId, before, limit: limit + 1 });
  const items = rows.map(({ transaction, entries }): LedgerTransaction => {
    const { id, kind, sourceId, subjectId, priceId, memo, createdAt } = transaction;
    return { id, kind, sourceId, subjectId, priceId, memo, entries, createdAt: toIso(createdAt) };
  });
  return toPage(key, items, limit, ({ id }) => id);
}

export async function getCurrentPrice(tx: Tx): Promise<CurrentPrice> {
  const { id, creditUsdMicros, callMicrosPerMinute, telephoneMicrosPerMinute, ...rest } = (await fundsOf(tx)).price;
  const { voiceCloneMicros, roundingSeconds, effectiveFrom } = rest;
  const perMinute = { callMicrosPerMinute, telephoneMicrosPerMinute };
  return { id, creditUsdMicros, ...perMinute, voiceCloneMicros, roundingSeconds, effectiveFrom: toIso(effectiveFrom) };
}
