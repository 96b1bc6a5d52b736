import { and, eq, inArray } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { enqueue } from "../../db/queue.ts";
import { credentials, providerAccounts } from "../../db/schema/credentials.ts";
import { ApiError } from "../core/errors.ts";
import type { Cipher } from "../ports/vault.ts";
import { voiceVendorNames } from "../ports/voice-vendors.ts";
import { type AccountRow, activeAccount } from "./service.ts";
import { refuseLiveCalls, refuseNonEmpty, refuseUnbilledCalls } from "./uses.ts";

/** The voice provider account that clients without their own account share. Its key comes from the environment. */
export const platformAccount = "pacc_platform";

/**
 * The account for new agents, voices, tools and knowledge bases of this client: its own, or the shared one. Existing
 * resources keep the account id in their row and stay there.
 */
export async function accountFor(tx: Tx): Promise<string> {
  return (await activeAccount(tx))?.id ?? platformAccount;
}

/** Whether the account is the client's own. Needs a transaction of that client. */
export async function isClientsOwn(tx: Tx, accountId: string): Promise<boolean> {
  return accountId !== platformAccount && (await getAccount(tx, accountId)) !== null;
}

/**
 * Makes this the client's own account, or replaces its key. The caller holds the lock on the credential, which serializes
 * this. A job then registers our webhook in the account; it needs the row of the account.
 */
export async function connectAccount(
  tx: Tx,
  cipher: Cipher,
  { apiKey, providerName }: { apiKey: string; providerName: string },
) {
  const current = await activeAccount(tx);
  if (current && current.providerName !== providerName) await retireAccount(tx, current, { force: false });
  const id = current?.providerName === providerName ? current.id : newId("providerAccount");
  const sealed = cipher.seal(apiKey, id);
  if (current?.id === id) {
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

/** The sealed key is kept until nothing needs it and a job has removed our webhook from the account. */
export async function retireAccount(tx: Tx, account: AccountRow, { force }: { force: boolean }) {
  await refuseLiveCalls(tx, account);
  if (!force) {
    await refuseNonEmpty(tx, account);
    await refuseUnbilledCalls(tx, account);
  }
  await tx.update(providerAccounts).set({ status: "retired" }).where(eq(providerAccounts.id, account.id));
  await enqueue(tx, "accounts.disconnect", { accountId: account.id }, { key: account.id });
}

/** Publishes the keys of all TTS providers to the account. */
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

/** Stores the webhook secret of an account, unless it has one. Returns the stored secret. */
export async function keepWebhookSecret(tx: Tx, id: string, sealed: Buffer): Promise<Buffer | null> {
  const account = await getAccount(tx, id);
  if (account?.status !== "active" || account.webhookSecret) return account?.webhookSecret ?? null;
  await tx.update(providerAccounts).set({ webhookSecret: sealed }).where(eq(providerAccounts.id, id));
  return sealed;
}

/** False if the account was retired in the meantime: then a job removes the webhook. */
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

/** Whether the account is retired and its key deleted, so that its resources cannot be reached. */
export async function isForgotten(tx: Tx, accountId: string): Promise<boolean> {
  const account = accountId === platformAccount ? null : await getAccount(tx, accountId);
  return account?.status === "retired" && account.apiKey === null;
}

/** Deletes the key of a retired account. After that its resources cannot be reached. */
export async function forgetAccount(tx: Tx, id: string) {
  await tx
    .update(providerAccounts)
    .set({ apiKey: null, webhookSecret: null, providerWebhookId: null })
    .where(and(eq(providerAccounts.id, id), eq(providerAccounts.status, "retired")));
}
