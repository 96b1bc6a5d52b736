import { and, asc, eq } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { credentials, providerAccounts } from "../../db/schema/credentials.ts";
import { ApiError } from "../core/errors.ts";
import { toIso, toIsoOrNull } from "../core/fields.ts";
import type { Cipher } from "../ports/vault.ts";
import { credentialProviders } from "../ports/vendors.ts";
import { isKnown } from "./kinds.ts";
import type { Credential, ProviderStatus } from "./schema.ts";

export type CredentialRow = typeof credentials.$inferSelect;
export type AccountRow = typeof providerAccounts.$inferSelect;

export const credentialNotFound = (provider: string) =>
  new ApiError(
    "credential_not_found",
    `You have no credential for ${provider}. Save one with PUT /auth/providers/${provider}.`,
  );

/** The decrypted fields of the client's credential; null if there is none. */
export async function openCredential(tx: Tx, cipher: Cipher, provider: string): Promise<Record<string, string> | null> {
  const row = await findCredential(tx, provider);
  return row ? openRow(cipher, row) : null;
}

/** Locks the credential, so that it cannot be deleted before this transaction ends. */
export async function requireCredential(tx: Tx, provider: string): Promise<CredentialRow> {
  const [row] = await tx.select().from(credentials).where(eq(credentials.provider, provider)).for("share");
  if (!row) throw credentialNotFound(provider);
  return row;
}

export async function findCredential(tx: Tx, provider: string): Promise<CredentialRow | null> {
  const [row] = await tx.select().from(credentials).where(eq(credentials.provider, provider));
  return row ?? null;
}

export const openRow = (cipher: Cipher, { sealed, id }: Pick<CredentialRow, "sealed" | "id">) =>
  JSON.parse(cipher.open(sealed, id).toString()) as Record<string, string>; // `saveCredential` sealed this shape

export async function activeAccount(tx: Tx): Promise<AccountRow | null> {
  const [row] = await tx.select().from(providerAccounts).where(eq(providerAccounts.status, "active"));
  return row ?? null;
}

/** All providers and the client's own secrets, on one page. */
export async function listProviders(tx: Tx) {
  const rows = await tx.select().from(credentials).orderBy(asc(credentials.provider));
  const account = await activeAccount(tx);
  const own = rows.filter(({ provider }) => !isKnown(provider)).map(({ provider }) => provider);
  const items = [...credentialProviders, ...own].map((provider) => statusOf(provider, rows, account));
  return { items, nextCursor: null, hasMore: false };
}

export async function providerStatus(tx: Tx, provider: string): Promise<ProviderStatus> {
  const row = await findCredential(tx, provider);
  return statusOf(provider, row ? [row] : [], await activeAccount(tx));
}

/** The platform's keys are in the shared account, which a client with its own account does not use. */
function statusOf(provider: string, rows: CredentialRow[], account: AccountRow | null): ProviderStatus {
  const row = rows.find((each) => each.provider === provider);
  const usesShared = isKnown(provider) && !row && !account;
  return { provider, credential: row ? toCredential(row, account) : null, usesShared };
}

export async function getCredential(tx: Tx, provider: string): Promise<Credential> {
  const row = await findCredential(tx, provider);
  if (!row) throw credentialNotFound(provider);
  return toCredential(row, await activeAccount(tx));
}

export function toCredential(row: CredentialRow, account: AccountRow | null): Credential {
  const webhookStatus = account?.providerWebhookId ? ("registered" as const) : ("pending" as const);
  return {
    id: row.id,
    provider: row.provider,
    prefix: row.prefix,
    details: row.details,
    status: row.status,
    statusReason: row.statusReason,
    verifiedAt: toIsoOrNull(row.verifiedAt),
    account: row.provider === "ultravox" && account ? { id: account.id, webhookStatus } : null,
    createdAt: toIso(row.createdAt),
    updatedAt: toIso(row.updatedAt),
  };
}

/** Records the result of a verification, unless the secret was replaced in the meantime. */
export async function markCredential(
  tx: Tx,
  { id, sealed }: Pick<CredentialRow, "id" | "sealed">,
  set: Pick<CredentialRow, "status" | "statusReason"> & { verifiedAt?: Date },
) {
  await tx
    .update(credentials)
    .set(set)
    .where(and(eq(credentials.id, id), eq(credentials.sealed, sealed)));
}
