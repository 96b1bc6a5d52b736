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
    `You have no credential for ${provider}. PUT /auth/providers/${provider} saves one.`,
  );

/** What this client shows at a provider's door; null where it has nothing to show. */
export async function openCredential(tx: Tx, ring: Cipher, provider: string): Promise<Record<string, string> | null> {
  const row = await findCredential(tx, provider);
  return row ? openRow(ring, row) : null;
}

/** For what is about to be made of it: it cannot be deleted before this transaction ends. */
export async function requireCredential(tx: Tx, provider: string): Promise<CredentialRow> {
  const [row] = await tx.select().from(credentials).where(eq(credentials.provider, provider)).for("share");
  if (!row) throw credentialNotFound(provider);
  return row;
}

export async function findCredential(tx: Tx, provider: string): Promise<CredentialRow | null> {
  const [row] = await tx.select().from(credentials).where(eq(credentials.provider, provider));
  return row ?? null;
}

export const openRow = (ring: Cipher, { sealed, id }: Pick<CredentialRow, "sealed" | "id">) =>
  JSON.parse(ring.open(sealed, id).toString()) as Record<string, string>; // sealed by us, in this shape

export async function activeAccount(tx: Tx): Promise<AccountRow | null> {
  const [row] = await tx.select().from(providerAccounts).where(eq(providerAccounts.status, "active"));
  return row ?? null;
}

/** Every provider there is, and the client's own secrets; few enough for one page. */
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

/** What the platform has is in the shared account: whoever has an account of his own does not reach it. */
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
  const webhook = account?.providerWebhookId ? ("registered" as const) : ("pending" as const);
  return {
    id: row.id,
    provider: row.provider,
    prefix: row.prefix,
    details: row.details,
    status: row.status,
    statusReason: row.statusReason,
    verifiedAt: toIsoOrNull(row.verifiedAt),
    account: row.provider === "ultravox" && account ? { id: account.id, webhook } : null,
    createdAt: toIso(row.createdAt),
    updatedAt: toIso(row.updatedAt),
  };
}

/** Writes what became of trying it, unless another secret has taken its place meanwhile. */
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
