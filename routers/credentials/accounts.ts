import { and, eq, inArray } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { enqueue } from "../../db/queue.ts";
import { credentials, providerAccounts } from "../../db/schema/credentials.ts";
import { ApiError } from "../core/errors.ts";
import type { Cipher } from "../ports/vault.ts";
import { voiceVendorNames } from "../ports/voice-vendors.ts";
import { type AccountRow, activeAccount } from "./service.ts";
import { refuseInhabited, refuseLiveCalls, refuseUnbilledCalls } from "./uses.ts";

/** The account at the voice provider that clients without one of their own share: it is in the environment. */
export const platformAccount = "pacc_platform";

/**
 * The account that this client's agents, voices, tools and knowledge bases are made in from now on: its own, or the
 * shared one. What was made in another keeps that account's id in its own row, and goes on there.
 */
export async function accountFor(tx: Tx): Promise<string> {
  return (await activeAccount(tx))?.id ?? platformAccount;
}

/** Is it a client's own, and not one of the installation's? Asked behind the wall of the client whose calls are made there. */
export async function isClientsOwn(tx: Tx, accountId: string): Promise<boolean> {
  return accountId !== platformAccount && (await getAccount(tx, accountId)) !== null;
}

/**
 * Makes this account the client's own, or gives it another key. The caller holds the row of the credential, so one at a
 * time. A job tells the account where to report its calls; its row must be there before.
 */
export async function takeAccount(
  tx: Tx,
  ring: Cipher,
  { apiKey, providerName }: { apiKey: string; providerName: string },
) {
  const present = await activeAccount(tx);
  if (present && present.providerName !== providerName) await retireAccount(tx, present, { force: false });
  const id = present?.providerName === providerName ? present.id : newId("providerAccount");
  const sealed = ring.seal(apiKey, id);
  if (present?.id === id) {
    await tx.update(providerAccounts).set({ apiKey: sealed }).where(eq(providerAccounts.id, id));
  } else {
    const made = await tx
      .insert(providerAccounts)
      .values({ id, providerName, apiKey: sealed })
      .onConflictDoNothing()
      .returning({ id: providerAccounts.id });
    if (made.length === 0) throw new ApiError("provider_account_in_use");
    await publishAll(tx);
  }
  await enqueue(tx, "accounts.connect", { accountId: id }, { key: id });
}

/** Its key stays, sealed, until nothing needs it any more and a job has removed its webhook there. */
export async function retireAccount(tx: Tx, account: AccountRow, { force }: { force: boolean }) {
  await refuseLiveCalls(tx, account);
  if (!force) {
    await refuseInhabited(tx, account);
    await refuseUnbilledCalls(tx, account);
  }
  await tx.update(providerAccounts).set({ status: "retired" }).where(eq(providerAccounts.id, account.id));
  await enqueue(tx, "accounts.disconnect", { accountId: account.id }, { key: account.id });
}

/** The keys of companies of voices belong into the account that speaks with them. */
async function publishAll(tx: Tx) {
  const rows = await tx
    .select({ id: credentials.id, provider: credentials.provider })
    .from(credentials)
    .where(inArray(credentials.provider, voiceVendorNames));
  for (const { id, provider } of rows) await enqueue(tx, "credentials.publish", { provider }, { key: id });
}

export async function getAccount(tx: Tx, id: string): Promise<AccountRow | null> {
  const [row] = await tx.select().from(providerAccounts).where(eq(providerAccounts.id, id));
  return row ?? null;
}

/** Keeps the secret of an account's webhook; the first one stays. */
export async function keepWebhookSecret(tx: Tx, id: string, sealed: Buffer): Promise<Buffer | null> {
  const account = await getAccount(tx, id);
  if (account?.status !== "active" || account.webhookSecret) return account?.webhookSecret ?? null;
  await tx.update(providerAccounts).set({ webhookSecret: sealed }).where(eq(providerAccounts.id, id));
  return sealed;
}

/** False when the account was given up meanwhile: then the webhook must go again. */
export async function recordWebhook(tx: Tx, id: string, providerWebhookId: string): Promise<boolean> {
  const rows = await tx
    .update(providerAccounts)
    .set({ providerWebhookId })
    .where(eq(providerAccounts.id, id))
    .returning({ status: providerAccounts.status });
  if (rows[0]?.status === "active") return true;
  await enqueue(tx, "accounts.disconnect", { accountId: id }, { key: id });
  return false;
}

/** Is nobody left who could be asked about what was made there? */
export async function isForgotten(tx: Tx, accountId: string): Promise<boolean> {
  const account = accountId === platformAccount ? null : await getAccount(tx, accountId);
  return account?.status === "retired" && account.apiKey === null;
}

/** What opened the account is forgotten; from now on nothing that was made there can be reached. */
export async function forgetAccount(tx: Tx, id: string) {
  await tx
    .update(providerAccounts)
    .set({ apiKey: null, webhookSecret: null, providerWebhookId: null })
    .where(and(eq(providerAccounts.id, id), eq(providerAccounts.status, "retired")));
}
