import type { SQL } from "drizzle-orm";
import { sql } from "drizzle-orm";
import { refusedHold, type Tx, withCommit } from "../../db/client.ts";
import { emit } from "../../db/events.ts";
import { newId } from "../../db/ids.ts";
import type { AccountName, ledgerTransactions } from "../../db/schema/billing.ts";
import { statement } from "../../db/statement.ts";

/*
 * A client has one row per account, and each posting changes the same two or three rows. So a posting is one statement, which
 * goes with the commit, together with its events: no transaction holds the lock of such a row while it does anything else.
 * The order of locks is: subject, balances, event counters.
 */

export type CreditsEvent = { type: CreditsEventType; amountMicros: number; subjectId: string | null };
type CreditsEventType =
  | "credits.held"
  | "credits.released"
  | "credits.debited"
  | "credits.refunded"
  | "credits.granted";
type Amounts = Partial<Record<AccountName, number>>;

export type Posting = {
  kind: (typeof ledgerTransactions.$inferInsert)["kind"];
  /** Unique with the kind: the same source is posted once only. */
  sourceId: string;
  subjectId: string | null;
  priceId: string | null;
  memo?: string;
  /** Sums to zero. */
  entries: Amounts;
};

/** The least available balance, and the error when the balance is lower. */
type Cover = { neededMicros: number; uncovered(availableMicros: number): Error };

/**
 * Posts with the commit. If the same source was posted before, or the balance does not cover what is needed, nothing of the
 * transaction is written. Nothing happens if no credits move, as with a price of zero.
 */
export function postWithCommit(tx: Tx, posting: Posting, events: CreditsEvent[], cover: Cover | null = null) {
  if (!movesCredits(posting)) return;
  const send = () =>
    postOnce(tx, valuesOf(posting, cover)).catch((error) => {
      const availableMicros = refusedHold(error);
      throw cover && availableMicros !== null ? cover.uncovered(availableMicros) : error;
    });
  withCommit(tx, send, ...events.filter(isShown).map((event) => () => emitWithBalances(tx, event)));
}

/** Posts immediately, for a response that contains the balance. Does nothing if the same source was posted before. */
export async function postNow(tx: Tx, posting: Posting, events: CreditsEvent[]) {
  if (!movesCredits(posting)) return;
  const [row] = await postUnlessPosted(tx, valuesOf(posting, null));
  if (row?.posted) for (const event of events.filter(isShown)) await emitWithBalances(tx, event);
}

const movesCredits = ({ entries }: Posting) => Object.values(entries).some((amount) => amount !== 0);
const isShown = ({ amountMicros }: CreditsEvent) => amountMicros > 0;

function valuesOf({ entries, ...posting }: Posting, cover: Cover | null) {
  const total = Object.values(entries).reduce((sum, amount) => sum + amount, 0);
  if (total !== 0) throw new Error(`Ledger entries must sum to zero, these sum to ${total}.`);
  const { kind, sourceId, subjectId, priceId, memo = null } = posting;
  const { available = 0, held = 0, revenue = 0, grants = 0 } = entries;
  const amounts = [available, held, revenue, grants];
  return [newId("transaction"), kind, sourceId, subjectId, priceId, memo, cover?.neededMicros ?? null, ...amounts];
}

const postOnce = statement(postingText(""));
const postUnlessPosted = statement<{ posted: boolean }>(postingText("on conflict do nothing"));

/**
 * Writes the transaction and its entries, and changes the balances. It locks rows in the order of their names, so that two
 * postings cannot deadlock. `for no key update`, since the foreign key of entries takes a shared lock on the same rows.
 */
function postingText(onConflict: "" | "on conflict do nothing") {
  return `
  with lines as ( -- the amounts of this posting, by account
    select account, amount from (
      values ('available', $8::bigint), ('held', $9::bigint), ('revenue', $10::bigint), ('grants', $11::bigint)
    ) line(account, amount) where amount <> 0
  ), posted as ( -- its transaction
    insert into ledger_transactions (id, kind, source_id, subject_id, price_id, memo)
    values ($1, $2, $3, $4, $5, $6) ${onConflict} returning id
  ), locked as materialized ( -- the balances that change, locked in the order of their names
    select a.name, a.balance_micros from ledger_accounts a
    where a.name in (select account from lines) and exists (select from posted)
    order by a.name for no key update of a
  ), moved as ( -- the new balances
    update ledger_accounts a set balance_micros = a.balance_micros + lines.amount
    from locked, lines where a.name = locked.name and a.name = lines.account
  ), entered as ( -- the entries
    insert into ledger_entries (transaction_id, account, amount_micros)
    select posted.id, lines.account, lines.amount from posted, lines
  )
  select exists (select from posted) as posted,
    case when $7::bigint is null or before.available >= $7::bigint then true else app.refuse_hold(before.available) end
  from (select coalesce((select balance_micros from locked where name = 'available'), 0) as available) before`;
}

const currentBalances: SQL = sql`(
  select jsonb_build_object(
    'availableMicros', coalesce(sum(balance_micros) filter (where name = 'available'), 0)::bigint,
    'heldMicros', coalesce(sum(balance_micros) filter (where name = 'held'), 0)::bigint)
  from ledger_accounts)`;

/** The database fills in the balances, so this is sent without waiting for the result of the posting. */
function emitWithBalances(tx: Tx, { type, ...data }: CreditsEvent) {
  const placeholders = { availableMicros: 0, heldMicros: 0 };
  return emit(tx, type, sql`current_setting('app.client_id')`, { ...data, ...placeholders }, currentBalances);
}
