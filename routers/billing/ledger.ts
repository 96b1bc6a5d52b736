import { eq } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { prepared } from "../../db/prepared.ts";
import { type AccountName, ledgerAccounts } from "../../db/schema/billing.ts";
import { statement } from "../../db/statement.ts";
import { ApiError } from "../core/errors.ts";
import { type CreditsEvent, postNow, postWithCommit } from "./posting.ts";
import type { Price } from "./price.ts";

const readAccounts = prepared((db) => db.select().from(ledgerAccounts));

export async function balancesOf(tx: Tx): Promise<{ availableMicros: number; heldMicros: number }> {
  const rows = await readAccounts(tx);
  const of = (name: AccountName) => rows.find((row) => row.name === name)?.balanceMicros ?? 0;
  return { availableMicros: of("available"), heldMicros: of("held") };
}

/** What a hold needs to know: the valid price, and the available credits. */
export type Funds = { price: Price; availableMicros: number };

type PriceRow = {
  id: string;
  call_micros_per_minute: string;
  telephone_micros_per_minute: string;
  rounding_seconds: number;
  voice_clone_micros: string;
};

const priceColumns =
  "p.id, p.call_micros_per_minute, p.telephone_micros_per_minute, p.rounding_seconds, p.voice_clone_micros";

function toPrice(row: PriceRow): Price {
  return {
    id: row.id,
    callMicrosPerMinute: Number(row.call_micros_per_minute),
    telephoneMicrosPerMinute: Number(row.telephone_micros_per_minute),
    roundingSeconds: row.rounding_seconds,
    voiceCloneMicros: Number(row.voice_clone_micros),
  };
}

const newestPrice = (owner: string) =>
  `select * from prices where ${owner} and effective_from <= clock_timestamp() order by effective_from desc, id desc limit 1`;

type FundsRow = PriceRow & { credit_usd_micros: string; effective_from: string; available_micros: string | null };

const readFunds = statement<FundsRow>(`
  select ${priceColumns}, p.credit_usd_micros, p.effective_from, (select balance_micros from ledger_accounts where name = 'available') as available_micros
  from (
    select 1 as rank, own.* from (${newestPrice("client_id is not null")}) own where not own.inherits
    union all select 2, general.* from (${newestPrice("client_id is null")}) general
  ) p order by p.rank limit 1`);

/**
 * The available credits, and the price that is valid now: the client's own price if there is one, else the price book's. One
 * statement, which is sent before this returns.
 */
export async function fundsOf(tx: Tx) {
  const [row] = await readFunds(tx, []);
  if (!row) throw new Error("The price book is empty.");
  const shown = { creditUsdMicros: Number(row.credit_usd_micros), effectiveFrom: new Date(row.effective_from) };
  return { price: { ...toPrice(row), ...shown }, availableMicros: Number(row.available_micros ?? 0) };
}

/**
 * Holds credits, or throws `credits_insufficient`: immediately, or with the commit if another transaction took the credits
 * meanwhile. A hold never overdraws the available balance.
 */
export async function holdCredits(tx: Tx, subjectId: string, amountMicros: number, funds: Funds) {
  const insufficient = (availableMicros: number) =>
    new ApiError(
      "credits_insufficient",
      `This may cost up to ${credits(amountMicros)} credits, and ${credits(availableMicros)} are available. Add credits, or lower maxDurationSeconds.`,
    );
  if (funds.availableMicros < amountMicros) throw insufficient(funds.availableMicros);
  await takeHold(tx, subjectId, amountMicros, funds, insufficient);
}

/**
 * For a call that has already started at the provider. Holds the amount if the balance covers it; else holds nothing and
 * returns false. The real cost is settled in both cases, below zero if necessary. The commit fails if the balance changed
 * meanwhile; the caller then retries.
 */
export async function holdIfCovered(tx: Tx, subjectId: string, amountMicros: number, funds: Funds): Promise<boolean> {
  const { price, availableMicros } = funds;
  if (availableMicros < amountMicros) {
    await insertHold(tx, [subjectId, price.id, 0, "settled"]);
    return false;
  }
  const changed = () => new Error(`The balance changed while credits were held for ${subjectId}. Try again.`);
  await takeHold(tx, subjectId, amountMicros, funds, changed);
  return true;
}

const insertHold = statement("insert into holds (subject_id, price_id, amount_micros, status) values ($1, $2, $3, $4)");

/** `uncovered`: the error when another transaction took the credits before the commit. */
async function takeHold(
  tx: Tx,
  subjectId: string,
  amountMicros: number,
  { price }: Funds,
  uncovered: (availableMicros: number) => Error,
) {
  const entries = { available: -amountMicros, held: amountMicros };
  const event = { type: "credits.held", amountMicros, subjectId } as const;
  const posting = { kind: "hold", sourceId: subjectId, subjectId, priceId: price.id, entries } as const;
  postWithCommit(tx, posting, [event], { neededMicros: amountMicros, uncovered });
  // A free call needs no credits, so the client may have no accounts yet.
  const opened = amountMicros === 0 ? openAccounts(tx) : null;
  await Promise.all([insertHold(tx, [subjectId, price.id, amountMicros, "held"]), opened]);
}

const closeHold = statement<{ amount_micros: string; price_id: string }>(
  "update holds set status = 'released' where subject_id = $1 and status = 'held' returning amount_micros, price_id",
);

/** Releases a whole hold: its subject never started. Idempotent. */
export async function releaseHold(tx: Tx, subjectId: string) {
  const [hold] = await closeHold(tx, [subjectId]);
  if (!hold) return;
  const amountMicros = Number(hold.amount_micros);
  const entries = { available: amountMicros, held: -amountMicros };
  const event = { type: "credits.released", amountMicros, subjectId } as const;
  postWithCommit(tx, { kind: "release", sourceId: subjectId, subjectId, priceId: hold.price_id, entries }, [event]);
}

type HoldRow = { amount_micros: string; captured_micros: string; status: string; posted: boolean };

const lockHold = statement<HoldRow & PriceRow>(`
  select h.amount_micros, h.captured_micros, h.status, ${priceColumns}, exists (
    select from ledger_transactions t where t.kind = 'settlement' and t.source_id = $2) as posted
  from holds h join prices p on p.id = h.price_id where h.subject_id = $1 for update of h`);

const settleHold = statement("update holds set status = 'settled', captured_micros = $2 where subject_id = $1");

/**
 * Posts the difference between a bill and the amount captured so far. The first bill closes the hold. `billOf` calculates the
 * bill by the price of the hold. A bill above the hold takes `available` below zero, since the provider charges it anyway.
 * Returns the bill.
 */
export async function settleBill(tx: Tx, subjectId: string, revision: number, billOf: (price: Price) => number) {
  const sourceId = `${subjectId}:${revision}`;
  const [hold] = await lockHold(tx, [subjectId, sourceId]);
  if (!hold) throw new Error(`Nothing was held for ${subjectId}.`);
  const price = toPrice(hold);
  const [billMicros, heldMicros] = [billOf(price), Number(hold.amount_micros)];
  const difference = billMicros - Number(hold.captured_micros);
  const freed = hold.status === "held" ? heldMicros : 0;
  if (hold.posted || (difference === 0 && hold.status !== "held")) return billMicros;
  const events: CreditsEvent[] = [
    { type: "credits.debited", amountMicros: difference, subjectId },
    { type: "credits.released", amountMicros: freed > 0 ? freed - Math.max(difference, 0) : 0, subjectId },
    { type: "credits.refunded", amountMicros: -difference, subjectId },
  ];
  const entries = { held: -freed, revenue: difference, available: freed - difference };
  const posting = { kind: "settlement", sourceId, subjectId, priceId: price.id, entries } as const;
  // Nothing was held, so this may be the client's first posting.
  const opened = heldMicros === 0 ? openAccounts(tx) : null;
  await Promise.all([settleHold(tx, [subjectId, billMicros]), opened]);
  postWithCommit(tx, posting, events);
  return billMicros;
}

/** Grants credits. Changes the balance immediately, since the response contains it. The same source grants once only. */
export async function grantCredits(tx: Tx, sourceId: string, amountMicros: number, memo: string) {
  await openAccounts(tx);
  await refuseAboveLimit(tx, amountMicros);
  const entries = { available: amountMicros, grants: -amountMicros };
  const posting = { kind: "grant", sourceId, subjectId: null, priceId: null, memo, entries } as const;
  await postNow(tx, posting, [{ type: "credits.granted", amountMicros, subjectId: null }]);
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

const credits = (amount: number) => (amount / 1_000_000).toLocaleString("en-US", { maximumFractionDigits: 6 });
