import { and, desc, eq, isNotNull, isNull, lte, type SQL, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
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
import { Fault } from "../fault.ts";
import type { Price } from "./price.ts";

type Posting = {
  kind: (typeof ledgerTransactions.$inferInsert)["kind"];
  /** With the kind, unique: what is posted once is never posted again. */
  sourceId: string;
  subjectId: string | null;
  priceId: string | null;
  memo?: string;
  /** Sums to zero. */
  entries: Partial<Record<AccountName, number>>;
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
  if (await takeHold(tx, subjectId, amountMicros, price)) return;
  const { availableMicros } = await balancesOf(tx);
  throw new Fault(
    "credits_insufficient",
    `This may cost up to ${credits(amountMicros)} credits, and ${credits(availableMicros)} are available. Add credits, or lower maxDurationSeconds.`,
  );
}

/**
 * For what has begun without asking us: the hold where it is covered, else none, and false. What it comes to is settled
 * all the same, below zero if need be.
 */
export async function holdIfCovered(tx: Tx, subjectId: string, amountMicros: number, price: Price): Promise<boolean> {
  if (await takeHold(tx, subjectId, amountMicros, price)) return true;
  await tx.insert(holds).values({ subjectId, amountMicros: 0, priceId: price.id, state: "settled" });
  return false;
}

async function takeHold(tx: Tx, subjectId: string, amountMicros: number, price: Price): Promise<boolean> {
  if (amountMicros === 0) await openAccounts(tx); // what is free needs no credits, and whoever never had any has no account
  const [taken] = await tx
    .update(ledgerAccounts)
    .set({ balanceMicros: sql`${ledgerAccounts.balanceMicros} - ${amountMicros}` })
    .where(and(eq(ledgerAccounts.name, "available"), sql`${ledgerAccounts.balanceMicros} >= ${amountMicros}`))
    .returning();
  if (!taken) return false;
  await writeTransaction(tx, {
    kind: "hold",
    sourceId: subjectId,
    subjectId,
    priceId: price.id,
    entries: { available: -amountMicros, held: amountMicros },
  });
  await addTo(tx, { held: amountMicros });
  await tx.insert(holds).values({ subjectId, amountMicros, priceId: price.id });
  if (amountMicros > 0) await say(tx, "credits.held", amountMicros, subjectId);
  return true;
}

/** Gives a hold back whole: what it was for never began. Doing so again changes nothing. */
export async function releaseHold(tx: Tx, subjectId: string) {
  const [hold] = await tx
    .update(holds)
    .set({ state: "released" })
    .where(and(eq(holds.subjectId, subjectId), eq(holds.state, "held")))
    .returning();
  if (!hold) return;
  await post(tx, {
    kind: "release",
    sourceId: subjectId,
    subjectId,
    priceId: hold.priceId,
    entries: { available: hold.amountMicros, held: -hold.amountMicros },
  });
  if (hold.amountMicros > 0) await say(tx, "credits.released", hold.amountMicros, subjectId);
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
  const freed = hold.state === "held" ? hold.amountMicros : 0;
  if (difference === 0 && hold.state !== "held") return;
  const posted = await post(tx, {
    kind: "settlement",
    sourceId: `${subjectId}:${revision}`,
    subjectId,
    priceId: hold.priceId,
    entries: { held: -freed, revenue: difference, available: freed - difference },
  });
  if (!posted) return;
  await tx.update(holds).set({ state: "settled", capturedMicros: billMicros }).where(eq(holds.subjectId, subjectId));
  if (difference > 0) await say(tx, "credits.debited", difference, subjectId);
  if (freed > difference && freed > 0) await say(tx, "credits.released", freed - Math.max(difference, 0), subjectId);
  if (difference < 0) await say(tx, "credits.refunded", -difference, subjectId);
}

/** Gives credits. The same source gives once. */
export async function grantCredits(tx: Tx, sourceId: string, amountMicros: number, memo: string) {
  await openAccounts(tx);
  await refuseBeyondRange(tx, amountMicros);
  const posted = await post(tx, {
    kind: "grant",
    sourceId,
    subjectId: null,
    priceId: null,
    memo,
    entries: { available: amountMicros, grants: -amountMicros },
  });
  if (posted) await say(tx, "credits.granted", amountMicros, null);
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
  throw new Fault("invalid_input", `amountMicros: ${message}`, { details: [{ path: "amountMicros", message }] });
}

/** The six accounts of a client; opened when they are first needed. */
async function openAccounts(tx: Tx) {
  const names = ["available", "held", "revenue", "purchases", "grants", "adjustments"] as const;
  await tx
    .insert(ledgerAccounts)
    .values(names.map((name) => ({ name })))
    .onConflictDoNothing();
}

/** False when this was posted before. */
async function post(tx: Tx, posting: Posting): Promise<boolean> {
  if (!(await writeTransaction(tx, posting))) return false;
  await addTo(tx, posting.entries);
  return true;
}

/** Of what moves no credits nothing is written: a hold and a bill at a price of zero. */
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
 * In one statement and in the order of the names, so that two settlements never wait for each other crosswise. `no key`,
 * since the entries' foreign key holds these rows shared already: a full `for update` would wait for the other's share.
 */
async function addTo(tx: Tx, amounts: Partial<Record<AccountName, number>>) {
  await tx.execute(sql`
    with locked as (
      select name from ledger_accounts where name in (select key from json_each(${JSON.stringify(amounts)}::json))
      order by name for no key update
    )
    update ledger_accounts a set balance_micros = balance_micros + (${JSON.stringify(amounts)}::json->>a.name)::bigint
    from locked where a.name = locked.name`);
}

async function say(
  tx: Tx,
  type: "credits.held" | "credits.released" | "credits.debited" | "credits.refunded" | "credits.granted",
  amountMicros: number,
  subjectId: string | null,
) {
  const balances = await balancesOf(tx);
  const [row] = await tx.execute<{ client: string }>(sql`select current_setting('app.client_id') as client`);
  await emit(tx, type, row!.client, { amountMicros, subjectId, ...balances });
}

const credits = (amount: number) => (amount / 1_000_000).toLocaleString("en-US", { maximumFractionDigits: 6 });
