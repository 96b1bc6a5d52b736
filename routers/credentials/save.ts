import { and, eq, like, ne, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { enqueue } from "../../db/queue.ts";
import { credentials } from "../../db/schema/credentials.ts";
import { ApiError } from "../core/errors.ts";
import { resyncAgentsUsing } from "../core/resync-agents.ts";
import { resyncVoices } from "../core/resync-voices.ts";
import type { Providers } from "../ports/index.ts";
import { type Deadline, ProviderError } from "../ports/provider-error.ts";
import type { Cipher } from "../ports/vault.ts";
import { isVoiceVendor } from "../ports/voice-vendors.ts";
import { retireAccount, takeAccount } from "./accounts.ts";
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
type World = Pick<Providers, "vendors" | "ultravox">;
/** What trying it came to. `providerName`: of Ultravox, whose account it opens. */
type Tried = { status: "verified" | "unverified"; reason: string | null; providerName: string | null };

/** Longer nobody waits for a company to say whether it knows a key: it is saved all the same. */
const tryMs = 8_000;
const mostOfOnesOwn = 100;

/** Tries it where it comes from, then keeps it. Refused there, nothing is kept. `at`: the field of the input. */
export function saving(
  { provider, secret }: PutCredential,
  ring: Cipher | (() => Promise<Cipher>),
  world: World,
  at = "secret",
) {
  const fields = fieldsOf(secret);
  return {
    read: (tx: Tx) => refuseTooMany(tx, provider),
    async execute(_: unknown, deadline: Deadline) {
      const tried = await tryOut(world, provider, fields, deadline, { at });
      return { tried, ring: typeof ring === "function" ? await ring() : ring };
    },
    record: (tx: Tx, _: unknown, { tried, ring }: { tried: Tried; ring: Cipher }) =>
      keep(tx, ring, provider, fields, tried),
  };
}

/** Tries what is kept once more, and keeps what came of it. */
export function verifying(provider: string, ring: Cipher, world: World) {
  return {
    async read(tx: Tx) {
      const row = await findCredential(tx, provider);
      if (!row) throw credentialNotFound(provider);
      return row;
    },
    async execute(row: CredentialRow, deadline: Deadline) {
      try {
        return await tryOut(world, provider, openRow(ring, row), deadline, { orThrow: true });
      } catch (error) {
        if (error instanceof ApiError && error.errorCode === "credential_refused") return { refused: error.message };
        throw error;
      }
    },
    async record(tx: Tx, row: CredentialRow, tried: Tried | { refused: string }): Promise<Credential> {
      if ("refused" in tried) await markCredential(tx, row, { status: "invalid", statusReason: tried.refused });
      else await markCredential(tx, row, { ...outcome(tried), statusReason: tried.reason });
      return getCredential(tx, provider);
    },
  };
}

const outcome = ({ status }: Tried) => ({ status, ...(status === "verified" ? { verifiedAt: new Date() } : {}) });

/** Throws Fault `credential_refused`; of Ultravox, and with `orThrow`, ProviderError when it cannot be asked now. */
async function tryOut(
  { vendors, ultravox }: World,
  provider: string,
  fields: Fields,
  { signal }: Deadline,
  { orThrow = false, at = "secret" } = {},
): Promise<Tried> {
  const deadline = { signal: AbortSignal.any([signal, AbortSignal.timeout(tryMs)]) };
  if (provider === "ultravox") return tryUltravox(ultravox, fields.apiKey ?? "", deadline, at);
  const unasked = (reason: string): Tried => ({ status: "unverified", reason, providerName: null });
  if (!isKnown(provider)) return unasked("A secret of your own: there is nobody to ask.");
  try {
    const answer = await vendors.verify(provider, fields, deadline);
    if (answer.verdict === "refused") throw refused(answer.reason, at);
    if (answer.verdict === "unverifiable") return unasked(`${provider} offers no way to ask about this one.`);
    return { status: "verified", reason: null, providerName: null };
  } catch (error) {
    if (!(error instanceof ProviderError) || orThrow) throw error;
    return unasked(`${provider} could not be asked just now; POST /auth/providers/${provider}/verify asks again.`);
  }
}

const installations =
  "This key opens an account of this installation, which its clients share. Bring the key of an account of your own.";

/** Its answer is needed: without it nobody knows whose account the key opens. */
async function tryUltravox(
  ultravox: World["ultravox"],
  apiKey: string,
  deadline: Deadline,
  at: string,
): Promise<Tried> {
  if (ultravox.webhookUrl("pacc_new") === null) throw new ApiError("provider_account_unreachable");
  try {
    const { providerName, isInstallations } = await ultravox.describeAccount(apiKey, deadline);
    if (isInstallations)
      throw new ApiError("provider_account_in_use", installations, { details: [{ path: at, message: installations }] });
    return { status: "verified", reason: null, providerName };
  } catch (error) {
    if (error instanceof ProviderError && error.kind === "refused") throw refused(error.message, at);
    throw error;
  }
}

const refused = (reason: string, path: string) =>
  new ApiError("credential_refused", reason, { details: [{ path, message: reason }] });

async function keep(tx: Tx, ring: Cipher, provider: string, fields: Fields, tried: Tried): Promise<Credential> {
  const { secret, open = [] } = kindOf(provider);
  const shown = {
    provider,
    prefix: prefixOf(fields[secret[0] ?? ""] ?? ""),
    details: Object.fromEntries(open.map((name) => [name, fields[name] ?? ""])),
    statusReason: tried.reason,
    verifiedAt: null,
    ...outcome(tried),
    updatedAt: sql`clock_timestamp()` as unknown as Date,
  };
  const text = JSON.stringify(fields);
  const id = newId("credential");
  const [made] = await tx
    .insert(credentials)
    .values({ id, ...shown, sealed: ring.seal(text, id) })
    .onConflictDoNothing()
    .returning({ id: credentials.id });
  const rowId = made?.id ?? (await lock(tx, provider)).id;
  // Sealed anew for the row that was there: what is sealed for one row does not open in another.
  if (!made)
    await tx
      .update(credentials)
      .set({ ...shown, sealed: ring.seal(text, rowId) })
      .where(eq(credentials.id, rowId));
  if (tried.providerName !== null) {
    await takeAccount(tx, ring, { apiKey: fields.apiKey ?? "", providerName: tried.providerName });
  }
  await publish(tx, provider, rowId);
  await resyncAgentsUsing(tx, "credential", rowId);
  return getCredential(tx, provider);
}

/** Deleted is deleted: the sealed secret is gone with the row. */
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

/** The key of a company of voices goes into the client's own account, and never into the shared one. */
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
    .limit(mostOfOnesOwn);
  if (others.length >= mostOfOnesOwn) throw new ApiError("credential_limit_reached");
}

/** As it is sealed: texts by name; a file is its text. */
function fieldsOf(secret: Secret): Fields {
  const entries = Object.entries(secret).filter(([, value]) => value !== undefined);
  return Object.fromEntries(
    entries.map(([name, value]) => [name, typeof value === "string" ? value : JSON.stringify(value)]),
  );
}
