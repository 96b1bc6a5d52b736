import { and, desc, eq, isNotNull, isNull, lte, type SQL, sql } from "drizzle-orm";
import { beforeCommit, type Tx } from "../../db/client.ts";
import { emit } from "../../db/events.ts";
import { newId } from "../../db/ids.ts";
import { prepared } from "../../db/prepared.ts";
import {
  type AccountName,
  holds,
  ledgerAccounts,
  ledgerEntries,
  ledgerTransactions,
  prices,
} from "../../db/schema/billing.ts";
import { ApiError } from "../core/errors.ts";
import type { Price } from "./price.ts";

/*
 * A client has one row per account, and each posting changes the same two or three rows. So entries are written when
 * they arise, but balances change right before the commit, together with their events: no transaction holds the lock of
 * such a row while it does anything else. The order of locks is: subject, balances, event counters.
 */

type CreditsEvent = { type: CreditsEventType; amountMicros: number; subjectId: string | null };
type CreditsEventType =
  | "credits.held"
  | "credits.released"
  | "credits.debited"
  | "credits.refunded"
  | "credits.granted";
type Amounts = Partial<Record<AccountName, number>>;

type Posting = {
  kind: (typeof ledgerTransactions.$inferInsert)["kind"];
  /** Unique with the kind: the same source is posted once only. */
  sourceId: string;
  subjectId: string | null;
  priceId: string | null;
  memo?: string;
  /** Sums to zero. */
  entries: Amounts;
};

/** The price that is valid now: the client's own price if there is one, else the price book's. */
export async function currentPrice(tx: Tx): Promise<typeof prices.$inferSelect> {
  const newest = (owner: SQL) =>
    tx
      .select()
      .from(prices)
      .where(and(lte(prices.effectiveFrom, sql`clock_timestamp()`), owner))
      .orderBy(desc(prices.effectiveFrom), desc(prices.id))
      .limit(1);
  const [[price], [own]] = await Promise.all([newest(isNull(prices.clientId)), newest(isNotNull(prices.clientId))]);
  if (own && !own.inherits) return own;
  if (!price) throw new Error("The price book is empty.");
  return price;
}

export async function priceById(tx: Tx, id: string): Promise<Price> {
  const [price] = await tx.select().from(prices).where(eq(prices.id, id));
  if (!price) throw new Error(`No price ${id}.`);
  return price;
}

const readAccounts = prepared((db) => db.select().from(ledgerAccounts));

export async function balancesOf(tx: Tx): Promise<{ availableMicros: number; heldMicros: number }> {
  const rows = await readAccounts(tx);
  const of = (name: AccountName) => rows.find((row) => row.name === name)?.balanceMicros ?? 0;
  return { availableMicros: of("available"), heldMicros: of("held") };
}

/** Holds credits, or throws `credits_insufficient`. A hold never overdraws the available balance, also under concurrency. */
export async function holdCredits(tx: Tx, subjectId: string, amountMicros: number, price: Price) {
  const refuse = async () => {
    const { availableMicros } = await balancesOf(tx);
    throw new ApiError(
      "credits_insufficient",
      `This may cost up to ${credits(amountMicros)} credits, and ${credits(availableMicros)} are available. Add credits, or lower maxDurationSeconds.`,
    );
  };
  if (!(await takeHold(tx, subjectId, amountMicros, price, refuse))) await refuse();
}

/**
 * For a call that has already started at the provider. Holds the amount if the balance covers it; else holds nothing and
 * returns false. The real cost is settled in both cases, below zero if necessary. Throws before the commit if the balance
 * changed meanwhile; the caller then retries.
 */
export async function holdIfCovered(tx: Tx, subjectId: string, amountMicros: number, price: Price): Promise<boolean> {
  const changed = async () => {
    throw new Error(`The balance changed while credits were held for ${subjectId}. Try again.`);
  };
  if (await takeHold(tx, subjectId, amountMicros, price, changed)) return true;
  await tx.insert(holds).values({ subjectId, amountMicros: 0, priceId: price.id, status: "settled" });
  return false;
}

/** `uncovered` runs before the commit if another transaction took the credits meanwhile. It must throw. */
async function takeHold(
  tx: Tx,
  subjectId: string,
  amountMicros: number,
  price: Price,
  uncovered: () => Promise<void>,
): Promise<boolean> {
  if (amountMicros === 0) await openAccounts(tx); // a free call needs no credits, so the client may have no accounts yet
  if ((await balancesOf(tx)).availableMicros < amountMicros) return false;
  const entries = { available: -amountMicros, held: amountMicros };
  const event = { type: "credits.held", amountMicros, subjectId } as const;
  await writeTransaction(tx, { kind: "hold", sourceId: subjectId, subjectId, priceId: price.id, entries });
  await tx.insert(holds).values({ subjectId, amountMicros, priceId: price.id });
  if (amountMicros === 0) return true;
  beforeCommit(tx, async () => {
    if (!(await moveBalances(tx, entries, [event], amountMicros))) await uncovered();
  });
  return true;
}

/** Releases a whole hold: its subject never started. Idempotent. */
export async function releaseHold(tx: Tx, subjectId: string) {
  const [hold] = await tx
    .update(holds)
    .set({ status: "released" })
    .where(and(eq(holds.subjectId, subjectId), eq(holds.status, "held")))
    .returning();
  if (!hold) return;
  const { amountMicros, priceId } = hold;
  const entries = { available: amountMicros, held: -amountMicros };
  const event = { type: "credits.released", amountMicros, subjectId } as const;
  if (await writeTransaction(tx, { kind: "release", sourceId: subjectId, subjectId, priceId, entries }))
    beforeCommit(tx, () => moveBalances(tx, entries, [event]));
}

/**
 * Posts the difference between a bill and the amount captured so far. The first bill closes the hold.
 * A bill above the hold takes `available` below zero, since the provider charges it anyway.
 */
export async function settleBill(tx: Tx, subjectId: string, revision: number, billMicros: number) {
  const [hold] = await tx.select().from(holds).where(eq(holds.subjectId, subjectId)).for("update");
  if (!hold) throw new Error(`Nothing was held for ${subjectId}.`);
  if (hold.amountMicros === 0) await openAccounts(tx); // nothing was held, so this may be the client's first posting
  const difference = billMicros - hold.capturedMicros;
  const freed = hold.status === "held" ? hold.amountMicros : 0;
  if (difference === 0 && hold.status !== "held") return;
  const entries = { held: -freed, revenue: difference, available: freed - difference };
  const sourceId = `${subjectId}:${revision}`;
  const { priceId } = hold;
  if (!(await writeTransaction(tx, { kind: "settlement", sourceId, subjectId, priceId, entries }))) return;
  await tx.update(holds).set({ status: "settled", capturedMicros: billMicros }).where(eq(holds.subjectId, subjectId));
  const events: CreditsEvent[] = [
    { type: "credits.debited", amountMicros: difference, subjectId },
    { type: "credits.released", amountMicros: freed > 0 ? freed - Math.max(difference, 0) : 0, subjectId },
    { type: "credits.refunded", amountMicros: -difference, subjectId },
  ];
  beforeCommit(tx, () => moveBalances(tx, entries, events));
}

/** Grants credits. Changes the balance immediately, since the response contains it. The same source grants once only. */
export async function grantCredits(tx: Tx, sourceId: string, amountMicros: number, memo: string) {
  await openAccounts(tx);
  await refuseAboveLimit(tx, amountMicros);
  const entries = { available: amountMicros, grants: -amountMicros };
  const posting = { kind: "grant", sourceId, subjectId: null, priceId: null, memo, entries } as const;
  if (!(await writeTransaction(tx, posting))) return;
  await moveBalances(tx, entries, [{ type: "credits.granted", amountMicros, subjectId: null }]);
}

/** About half of the largest safe integer, which leaves room for held credits and concurrent grants. */
const maxBalanceMicros = 4e15;

/** A balance above the safe integers cannot be calculated or sent as JSON. */
async function refuseAboveLimit(tx: Tx, amountMicros: number) {
  const [account] = await tx
    .select()
    .from(ledgerAccounts)
    .where(eq(ledgerAccounts.name, "grants"))
    .for("no key update");
  const { availableMicros } = await balancesOf(tx);
  const granted = Math.abs(account?.balanceMicros ?? 0);
  if (Math.max(availableMicros, granted) + amountMicros <= maxBalanceMicros) return;
  throw ApiError.invalid(
    "amountMicros",
    `A client can have at most ${credits(maxBalanceMicros)} credits. Grant a smaller amount.`,
  );
}

/** Creates the six accounts of a client, if they do not exist yet. */
async function openAccounts(tx: Tx) {
  const names = ["available", "held", "revenue", "purchases", "grants", "adjustments"] as const;
  await tx
    .insert(ledgerAccounts)
    .values(names.map((name) => ({ name })))
    .onConflictDoNothing();
}

/** Returns false if this was posted before. Writes nothing if no credits move: a hold or bill at a price of zero. */
async function writeTransaction(tx: Tx, { entries, ...transaction }: Posting): Promise<boolean> {
  const lines = Object.entries(entries).filter(([, amount]) => amount !== 0) as [AccountName, number][];
  if (lines.length === 0) return true;
  const [written] = await tx
    .insert(ledgerTransactions)
    .values({ id: newId("transaction"), ...transaction })
    .onConflictDoNothing()
    .returning();
  if (!written) return false;
  const total = lines.reduce((sum, [, amount]) => sum + amount, 0);
  if (total !== 0) throw new Error(`Ledger entries must sum to zero, these sum to ${total}.`);
  await tx
    .insert(ledgerEntries)
    .values(lines.map(([account, amountMicros]) => ({ transactionId: written.id, account, amountMicros })));
  return true;
}

/**
 * Changes the balances and emits the events with the new balances, in one round trip. Returns false, and changes nothing, if
 * less than `needed` is available. Locks rows in the order of their names, so that two settlements cannot deadlock.
 * `for no key update`, since the entries' foreign key already holds a shared lock on these rows: with `for update`, two
 * transactions would block each other.
 */
async function moveBalances(tx: Tx, amounts: Amounts, events: CreditsEvent[], needed: number | null = null) {
  if (Object.values(amounts).every((amount) => amount === 0)) return true;
  const json = JSON.stringify({ available: 0, held: 0, ...amounts });
  const moved = tx
    .execute(sql`
    with locked as ( -- the accounts that change, locked in the order of their names
      select name, balance_micros from ledger_accounts where name in (select key from json_each(${json}::json))
      order by name for no key update
    ), covered as ( -- whether the available balance covers what is needed
      select ${needed}::bigint is null
        or coalesce((select balance_micros from locked where name = 'available'), 0) >= ${needed}::bigint as yes
    )
    update ledger_accounts a set balance_micros = a.balance_micros + (${json}::json->>a.name)::bigint
    from locked, covered where a.name = locked.name and covered.yes returning a.name`)
    .execute(); // sent now, before the events
  const [rows] = await Promise.all([
    moved,
    ...events.filter(({ amountMicros }) => amountMicros > 0).map(emitWithBalances(tx)),
  ]);
  return rows.length > 0;
}

const currentBalances = sql`(
  select jsonb_build_object(
    'availableMicros', coalesce(sum(balance_micros) filter (where name = 'available'), 0)::bigint,
    'heldMicros', coalesce(sum(balance_micros) filter (where name = 'held'), 0)::bigint)
  from ledger_accounts)`;

/** The database fills in the balances, so these statements are sent without waiting for the result of the change. */
const emitWithBalances =
  (tx: Tx) =>
  ({ type, ...data }: CreditsEvent) => {
    const placeholders = { availableMicros: 0, heldMicros: 0 };
    return emit(tx, type, sql`current_setting('app.client_id')`, { ...data, ...placeholders }, currentBalances);
  };

const credits = (amount: number) => (amount / 1_000_000).toLocaleString("en-US", { maximumFractionDigits: 6 });
