import { and, desc, eq, isNotNull, isNull, lte, type SQL, sql } from "drizzle-orm";
import { beforeCommit, type Tx } from "../../db/client.ts";
import { emit } from "../../db/events.ts";
import { newId } from "../../db/ids.ts";
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
 * A client has one row per account, and every posting of theirs changes the same two or three. So the entries are written
 * when they arise, and the balances are changed right before the commit, with the events that carry them: nothing waits for
 * such a row while a transaction does anything else. The order of locks is: subject, balances, counters of events.
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
  /** With the kind, unique: what is posted once is never posted again. */
  sourceId: string;
  subjectId: string | null;
  priceId: string | null;
  memo?: string;
  /** Sums to zero. */
  entries: Amounts;
};

/** The price in force now: the client's own where the operator gave one, else that of the price book. */
export async function currentPrice(tx: Tx): Promise<typeof prices.$inferSelect> {
  const newest = (whose: SQL) =>
    tx
      .select()
      .from(prices)
      .where(and(lte(prices.effectiveFrom, sql`clock_timestamp()`), whose))
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

export async function balancesOf(tx: Tx): Promise<{ availableMicros: number; heldMicros: number }> {
  const rows = await tx.select().from(ledgerAccounts);
  const of = (name: AccountName) => rows.find((row) => row.name === name)?.balanceMicros ?? 0;
  return { availableMicros: of("available"), heldMicros: of("held") };
}

/** Sets credits aside, or refuses: what is available is never overdrawn by a hold, whatever runs at the same time. */
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
 * For what has begun without asking us: the hold where it is covered, else none, and false. What it comes to is settled
 * all the same, below zero if need be. Throws before the commit if the balance has changed meanwhile: try again then.
 */
export async function holdIfCovered(tx: Tx, subjectId: string, amountMicros: number, price: Price): Promise<boolean> {
  const changed = async () => {
    throw new Error(`The balance changed while credits were held for ${subjectId}. Try again.`);
  };
  if (await takeHold(tx, subjectId, amountMicros, price, changed)) return true;
  await tx.insert(holds).values({ subjectId, amountMicros: 0, priceId: price.id, status: "settled" });
  return false;
}

/** `uncovered` is called before the commit, if others took the credits after they were seen here. It throws. */
async function takeHold(
  tx: Tx,
  subjectId: string,
  amountMicros: number,
  price: Price,
  uncovered: () => Promise<void>,
): Promise<boolean> {
  if (amountMicros === 0) await openAccounts(tx); // what is free needs no credits, and whoever never had any has no account
  if ((await balancesOf(tx)).availableMicros < amountMicros) return false;
  const entries = { available: -amountMicros, held: amountMicros };
  const said = { type: "credits.held", amountMicros, subjectId } as const;
  await writeTransaction(tx, { kind: "hold", sourceId: subjectId, subjectId, priceId: price.id, entries });
  await tx.insert(holds).values({ subjectId, amountMicros, priceId: price.id });
  if (amountMicros === 0) return true;
  beforeCommit(tx, async () => {
    if (!(await moveBalances(tx, entries, [said], amountMicros))) await uncovered();
  });
  return true;
}

/** Gives a hold back whole: what it was for never began. Doing so again changes nothing. */
export async function releaseHold(tx: Tx, subjectId: string) {
  const [hold] = await tx
    .update(holds)
    .set({ status: "released" })
    .where(and(eq(holds.subjectId, subjectId), eq(holds.status, "held")))
    .returning();
  if (!hold) return;
  const { amountMicros, priceId } = hold;
  const entries = { available: amountMicros, held: -amountMicros };
  const said = { type: "credits.released", amountMicros, subjectId } as const;
  if (await writeTransaction(tx, { kind: "release", sourceId: subjectId, subjectId, priceId, entries }))
    beforeCommit(tx, () => moveBalances(tx, entries, [said]));
}

/**
 * Posts what a bill adds to, or takes from, what is already captured; the first one closes the hold.
 * A bill beyond the hold takes `available` below zero: the provider was paid already.
 */
export async function settleBill(tx: Tx, subjectId: string, revision: number, billMicros: number) {
  const [hold] = await tx.select().from(holds).where(eq(holds.subjectId, subjectId)).for("update");
  if (!hold) throw new Error(`Nothing was held for ${subjectId}.`);
  if (hold.amountMicros === 0) await openAccounts(tx); // nothing was held: this may be the client's first posting
  const difference = billMicros - hold.capturedMicros;
  const freed = hold.status === "held" ? hold.amountMicros : 0;
  if (difference === 0 && hold.status !== "held") return;
  const entries = { held: -freed, revenue: difference, available: freed - difference };
  const sourceId = `${subjectId}:${revision}`;
  const { priceId } = hold;
  if (!(await writeTransaction(tx, { kind: "settlement", sourceId, subjectId, priceId, entries }))) return;
  await tx.update(holds).set({ status: "settled", capturedMicros: billMicros }).where(eq(holds.subjectId, subjectId));
  const said: CreditsEvent[] = [
    { type: "credits.debited", amountMicros: difference, subjectId },
    { type: "credits.released", amountMicros: freed > 0 ? freed - Math.max(difference, 0) : 0, subjectId },
    { type: "credits.refunded", amountMicros: -difference, subjectId },
  ];
  beforeCommit(tx, () => moveBalances(tx, entries, said));
}

/** Gives credits, and changes the balance now, since the answer carries it. The same source gives once. */
export async function grantCredits(tx: Tx, sourceId: string, amountMicros: number, memo: string) {
  await openAccounts(tx);
  await refuseBeyondRange(tx, amountMicros);
  const entries = { available: amountMicros, grants: -amountMicros };
  const posting = { kind: "grant", sourceId, subjectId: null, priceId: null, memo, entries } as const;
  if (!(await writeTransaction(tx, posting))) return;
  await moveBalances(tx, entries, [{ type: "credits.granted", amountMicros, subjectId: null }]);
}

/** Half of what a number holds exactly: what is held, and grants that run at the same time, still fit beside it. */
const highestBalanceMicros = 4e15;

/** A balance beyond the safe integers could not be told to anyone, nor reckoned with. */
async function refuseBeyondRange(tx: Tx, amountMicros: number) {
  const [account] = await tx
    .select()
    .from(ledgerAccounts)
    .where(eq(ledgerAccounts.name, "grants"))
    .for("no key update");
  const { availableMicros } = await balancesOf(tx);
  const granted = Math.abs(account?.balanceMicros ?? 0);
  if (Math.max(availableMicros, granted) + amountMicros <= highestBalanceMicros) return;
  const message = `A client is given and holds at most ${credits(highestBalanceMicros)} credits. Give less.`;
  throw new ApiError("input_invalid", `amountMicros: ${message}`, { details: [{ path: "amountMicros", message }] });
}

/** The six accounts of a client; opened when they are first needed. */
async function openAccounts(tx: Tx) {
  const names = ["available", "held", "revenue", "purchases", "grants", "adjustments"] as const;
  await tx
    .insert(ledgerAccounts)
    .values(names.map((name) => ({ name })))
    .onConflictDoNothing();
}

/** False when this was posted before. Of what moves no credits nothing is written: a hold and a bill at a price of zero. */
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
 * Changes the balances and says so with what they have become, in one round trip. false: less than `needed` is available,
 * and nothing was changed. In the order of the names, so that two settlements never wait for each other crosswise.
 * `no key`, since the entries' foreign key holds these rows shared already: a full `for update` would wait for the other's.
 */
async function moveBalances(tx: Tx, amounts: Amounts, said: CreditsEvent[], needed: number | null = null) {
  if (Object.values(amounts).every((amount) => amount === 0)) return true;
  const json = JSON.stringify({ available: 0, held: 0, ...amounts });
  const moved = tx
    .execute(sql`
    with locked as (
      select name, balance_micros from ledger_accounts where name in (select key from json_each(${json}::json))
      order by name for no key update
    ), covered as (
      select ${needed}::bigint is null
        or coalesce((select balance_micros from locked where name = 'available'), 0) >= ${needed}::bigint as yes
    )
    update ledger_accounts a set balance_micros = a.balance_micros + (${json}::json->>a.name)::bigint
    from locked, covered where a.name = locked.name and covered.yes returning a.name`)
    .execute(); // sent now, before the events
  const [rows] = await Promise.all([moved, ...said.filter(({ amountMicros }) => amountMicros > 0).map(sayTo(tx))]);
  return rows.length > 0;
}

const balancesNow = sql`(
  select jsonb_build_object(
    'availableMicros', coalesce(sum(balance_micros) filter (where name = 'available'), 0)::bigint,
    'heldMicros', coalesce(sum(balance_micros) filter (where name = 'held'), 0)::bigint)
  from ledger_accounts)`;

/** The balances are put in by the database: these statements follow the change without waiting for its answer. */
const sayTo =
  (tx: Tx) =>
  ({ type, ...data }: CreditsEvent) => {
    const unknownYet = { availableMicros: 0, heldMicros: 0 };
    return emit(tx, type, sql`current_setting('app.client_id')`, { ...data, ...unknownYet }, balancesNow);
  };

const credits = (amount: number) => (amount / 1_000_000).toLocaleString("en-US", { maximumFractionDigits: 6 });
