import { and, eq, like, ne } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { enqueue } from "../../db/queue.ts";
import { credentials } from "../../db/schema/credentials.ts";
import { dbNow } from "../../db/time.ts";
import { ApiError } from "../core/errors.ts";
import { resyncAgentsUsing } from "../core/resync-agents.ts";
import { resyncVoices } from "../core/resync-voices.ts";
import type { Providers } from "../ports/index.ts";
import { type Deadline, ProviderError } from "../ports/provider-error.ts";
import type { Cipher } from "../ports/vault.ts";
import { isVoiceVendor } from "../ports/voice-vendors.ts";
import { connectAccount, retireAccount } from "./accounts.ts";
import { isKnown, kindOf, prefixOf } from "./kinds.ts";
import type { Credential, PutCredential, RemoveCredential, Secret } from "./schema.ts";
import {
  activeAccount,
  type CredentialRow,
  credentialNotFound,
  findCredential,
  getCredential,
  markCredential,
  openRow,
} from "./service.ts";
import { refuseInUse } from "./uses.ts";

type Fields = Record<string, string>;
type ProviderPorts = Pick<Providers, "vendors" | "ultravox">;
/** The result of a verification. `providerName`: only for Ultravox, the name of the account. */
type Verification = { status: "verified" | "unverified"; reason: string | null; providerName: string | null };

/** After this time a credential is saved unverified. */
const verifyTimeoutMs = 8_000;
const maxCustomSecrets = 100;

/** Verifies the credential at its provider, then stores it. If refused, nothing is stored. `at`: the input field of errors. */
export function saveCredential(
  { provider, secret }: PutCredential,
  cipher: Cipher | (() => Promise<Cipher>),
  providers: ProviderPorts,
  at = "secret",
) {
  const fields = fieldsOf(secret);
  return {
    read: (tx: Tx) => refuseTooMany(tx, provider),
    async execute(_: unknown, deadline: Deadline) {
      const verification = await verifyAtProvider(providers, provider, fields, deadline, { at });
      return { verification, cipher: typeof cipher === "function" ? await cipher() : cipher };
    },
    record: (tx: Tx, _: unknown, { verification, cipher }: { verification: Verification; cipher: Cipher }) =>
      store(tx, cipher, provider, fields, verification),
  };
}

/** Verifies the stored credential again, and records the result. */
export function verifyCredential(provider: string, cipher: Cipher, providers: ProviderPorts) {
  return {
    async read(tx: Tx) {
      const row = await findCredential(tx, provider);
      if (!row) throw credentialNotFound(provider);
      return row;
    },
    async execute(row: CredentialRow, deadline: Deadline) {
      try {
        return await verifyAtProvider(providers, provider, openRow(cipher, row), deadline, { orThrow: true });
      } catch (error) {
        if (error instanceof ApiError && error.errorCode === "credential_refused") return { refused: error.message };
        throw error;
      }
    },
    async record(tx: Tx, row: CredentialRow, result: Verification | { refused: string }): Promise<Credential> {
      if ("refused" in result) await markCredential(tx, row, { status: "invalid", statusReason: result.refused });
      else await markCredential(tx, row, { ...statusColumns(result), statusReason: result.reason });
      return getCredential(tx, provider);
    },
  };
}

const statusColumns = ({ status }: Verification) => ({
  status,
  verifiedAt: status === "verified" ? new Date() : undefined,
});

/** Throws ApiError `credential_refused`. For Ultravox, and with `orThrow`, throws ProviderError if the provider is unavailable. */
async function verifyAtProvider(
  { vendors, ultravox }: ProviderPorts,
  provider: string,
  fields: Fields,
  { signal }: Deadline,
  { orThrow = false, at = "secret" } = {},
): Promise<Verification> {
  const deadline = { signal: AbortSignal.any([signal, AbortSignal.timeout(verifyTimeoutMs)]) };
  if (provider === "ultravox") return verifyUltravox(ultravox, fields.apiKey ?? "", deadline, at);
  const unverified = (reason: string): Verification => ({ status: "unverified", reason, providerName: null });
  if (!isKnown(provider)) return unverified("This is a secret of your own, so no provider can verify it.");
  try {
    const result = await vendors.verify(provider, fields, deadline);
    if (result.verdict === "refused") throw refused(result.reason, at);
    if (result.verdict === "unverifiable") return unverified(`${provider} offers no way to verify this credential.`);
    return { status: "verified", reason: null, providerName: null };
  } catch (error) {
    if (!(error instanceof ProviderError) || orThrow) throw error;
    return unverified(`${provider} is unavailable. Verify again with POST /auth/providers/${provider}/verify.`);
  }
}

const sharedAccount = "This key belongs to the shared account of this installation. Use the key of your own account.";

/** Requires a response from the provider, because only it names the account of the key. */
async function verifyUltravox(
  ultravox: ProviderPorts["ultravox"],
  apiKey: string,
  deadline: Deadline,
  at: string,
): Promise<Verification> {
  if (ultravox.webhookUrl("pacc_new") === null) throw new ApiError("provider_account_unreachable");
  try {
    const { providerName, isInstallations } = await ultravox.describeAccount(apiKey, deadline);
    if (isInstallations)
      throw new ApiError("provider_account_in_use", sharedAccount, { details: [{ path: at, message: sharedAccount }] });
    return { status: "verified", reason: null, providerName };
  } catch (error) {
    if (error instanceof ProviderError && error.kind === "refused") throw refused(error.message, at);
    throw error;
  }
}

const refused = (reason: string, path: string) =>
  new ApiError("credential_refused", reason, { details: [{ path, message: reason }] });

async function store(
  tx: Tx,
  cipher: Cipher,
  provider: string,
  fields: Fields,
  verification: Verification,
): Promise<Credential> {
  const { secret, open = [] } = kindOf(provider);
  const columns = {
    provider,
    prefix: prefixOf(fields[secret[0] ?? ""] ?? ""),
    details: Object.fromEntries(open.map((name) => [name, fields[name] ?? ""])),
    statusReason: verification.reason,
    status: verification.status,
    verifiedAt: verification.status === "verified" ? new Date() : null,
    updatedAt: dbNow(),
  };
  const text = JSON.stringify(fields);
  const id = newId("credential");
  const [made] = await tx
    .insert(credentials)
    .values({ id, ...columns, sealed: cipher.seal(text, id) })
    .onConflictDoNothing()
    .returning({ id: credentials.id });
  const rowId = made?.id ?? (await lock(tx, provider)).id;
  // Sealed again for the existing row: a value sealed for one row cannot be opened in another.
  if (!made)
    await tx
      .update(credentials)
      .set({ ...columns, sealed: cipher.seal(text, rowId) })
      .where(eq(credentials.id, rowId));
  if (verification.providerName !== null) {
    await connectAccount(tx, cipher, { apiKey: fields.apiKey ?? "", providerName: verification.providerName });
  }
  await publish(tx, provider, rowId);
  await resyncAgentsUsing(tx, "credential", rowId);
  return getCredential(tx, provider);
}

/** Deletes the credential with its sealed secret. */
export async function removeCredential(tx: Tx, { provider, force }: RemoveCredential) {
  const row = await lock(tx, provider);
  if (!force) await refuseInUse(tx, row);
  const account = provider === "ultravox" ? await activeAccount(tx) : null;
  if (account) await retireAccount(tx, account, { force });
  await tx.delete(credentials).where(eq(credentials.id, row.id));
  await publish(tx, provider, row.id);
}

async function lock(tx: Tx, provider: string): Promise<CredentialRow> {
  const [row] = await tx.select().from(credentials).where(eq(credentials.provider, provider)).for("update");
  if (!row) throw credentialNotFound(provider);
  return row;
}

/** Publishes the key of a TTS provider to the client's own account, never to the shared one. */
async function publish(tx: Tx, provider: string, credentialId: string) {
  if (!isVoiceVendor(provider)) return;
  await resyncVoices(tx, provider);
  if (!(await activeAccount(tx))) return;
  await enqueue(tx, "credentials.publish", { provider }, { key: credentialId });
}

async function refuseTooMany(tx: Tx, provider: string) {
  if (isKnown(provider)) return;
  const others = await tx
    .select({ id: credentials.id })
    .from(credentials)
    .where(and(like(credentials.provider, "custom-%"), ne(credentials.provider, provider)))
    .limit(maxCustomSecrets);
  if (others.length >= maxCustomSecrets) throw new ApiError("credential_limit_reached");
}

/** The fields in the form that is sealed: a service account file is stored as its JSON text. */
function fieldsOf(secret: Secret): Fields {
  const entries = Object.entries(secret).filter(([, value]) => value !== undefined);
  return Object.fromEntries(
    entries.map(([name, value]) => [name, typeof value === "string" ? value : JSON.stringify(value)]),
  );
}
