import { eq } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { credentials } from "../../db/schema/credentials.ts";
import { ApiError, type ErrorDetail } from "../core/errors.ts";
import type { Providers } from "../ports/index.ts";
import type { Deadline } from "../ports/provider-error.ts";
import type { ProviderCarrier, ProviderRegistration, ProviderSip } from "../ports/ultravox.ts";
import type { Cipher } from "../ports/vault.ts";
import { ownNumbers } from "./numbers.ts";
import { newestRegistrations, toRegistration, updateRegistered } from "./registrations.ts";
import type { TelephonyConfig, UpdateTelephony } from "./schema.ts";
import { accountOfClient, configOf, newestRoutes, saveConfig } from "./service.ts";

type ProviderSetup = { sip: ProviderSip; carriers: ProviderCarrier[]; registrations: ProviderRegistration[] };
type Account = { accountId: string; shared: boolean };

/** Gets the telephony setup of an account from the provider. */
export async function readAccount(
  { ultravox }: Providers,
  { accountId }: Account,
  deadline: Deadline,
): Promise<ProviderSetup> {
  const [sip, carriers, registrations] = await Promise.all([
    ultravox.getSip(accountId, deadline),
    ultravox.listCarriers(accountId, deadline),
    ultravox.listRegistrations(accountId, [], deadline),
  ]);
  return { sip, carriers, registrations };
}

/** For a shared account, hides the carrier accounts and the allowed ranges from clients. */
export async function describeTelephony(tx: Tx, { shared }: Account, setup: ProviderSetup): Promise<TelephonyConfig> {
  const rows = await newestRegistrations(tx, 100);
  const registrations = await updateRegistered(tx, rows, setup.registrations);
  return {
    accountIsShared: shared,
    sip: { domain: setup.sip.domain, allowedCidrRanges: shared ? null : setup.sip.allowedCidrRanges },
    carriers: setup.carriers.map(({ carrier, account, secretPrefix }) => ({
      carrier,
      isShared: shared,
      account: shared ? null : account,
      secretPrefix: shared ? null : secretPrefix,
    })),
    ...(await configOf(tx)),
    registrations: registrations.map(toRegistration),
    routes: await newestRoutes(tx),
    numbers: await ownNumbers(tx),
  };
}

export type PlannedChange = Account & {
  input: UpdateTelephony;
  /** The credential fields to set for each carrier. null removes the carrier. */
  carriers: { carrier: ProviderCarrier["carrier"]; fields: Record<string, string> | null }[];
};

/** Reads what the change needs. Throws `input_invalid` for settings of a shared account. */
export async function planChange(tx: Tx, input: UpdateTelephony, cipher: Cipher): Promise<PlannedChange> {
  const account = await accountOfClient(tx);
  const forbidden = (["allowedCidrRanges", "carriers"] as const).filter((name) => input[name] !== undefined);
  if (account.shared && forbidden.length > 0) throw sharedAccount(forbidden);
  const { twilio, telnyx, plivo } = input.carriers ?? {};
  const carriers: PlannedChange["carriers"] = [];
  if (twilio !== undefined) {
    const fields = twilio ? await carrierFields(tx, cipher, "twilio") : null;
    carriers.push({ carrier: "twilio", fields: fields && pick(fields, ["accountSid", "authToken"]) });
  }
  if (plivo !== undefined) {
    const fields = plivo ? await carrierFields(tx, cipher, "plivo") : null;
    carriers.push({ carrier: "plivo", fields: fields && pick(fields, ["authId", "authToken"]) });
  }
  if (telnyx !== undefined) {
    const fields = telnyx ? await carrierFields(tx, cipher, "telnyx") : null;
    carriers.push({ carrier: "telnyx", fields: fields && { ...pick(fields, ["apiKey", "publicKey"]), ...telnyx } });
  }
  return { ...account, input, carriers };
}

/** Idempotent: steps before a failure stay, and the same request completes the rest. */
export async function updateAccount(
  providers: Providers,
  planned: PlannedChange,
  deadline: Deadline,
): Promise<ProviderSetup> {
  const { ultravox } = providers;
  const { accountId, input, carriers } = planned;
  if (input.allowedCidrRanges)
    await ultravox.updateSip(accountId, { allowedCidrRanges: input.allowedCidrRanges }, deadline);
  for (const { carrier, fields } of carriers) {
    if (fields) await ultravox.setCarrier(accountId, carrier, fields, deadline);
    else await ultravox.removeCarrier(accountId, carrier, deadline);
  }
  return readAccount(providers, planned, deadline);
}

export async function recordChange(tx: Tx, planned: PlannedChange, setup: ProviderSetup): Promise<TelephonyConfig> {
  const { defaultCarrier, defaultFrom, allowedCidrRanges } = planned.input;
  await saveConfig(tx, { defaultCarrier, defaultFrom, allowedCidrRanges });
  return describeTelephony(tx, planned, setup);
}

async function carrierFields(tx: Tx, cipher: Cipher, provider: "twilio" | "telnyx" | "plivo") {
  const [row] = await tx.select().from(credentials).where(eq(credentials.provider, provider));
  if (!row) {
    const message = `There is no ${provider} credential. Save one first: PUT /auth/providers/${provider}.`;
    throw new ApiError("credential_not_found", message, { details: [{ path: `carriers.${provider}`, message }] });
  }
  const secret = JSON.parse(cipher.open(row.sealed, row.id).toString()) as Record<string, string>;
  return { ...row.details, ...secret };
}

const pick = (fields: Record<string, string>, names: string[]) =>
  Object.fromEntries(names.flatMap((name) => (fields[name] === undefined ? [] : [[name, fields[name]]])));

function sharedAccount(names: readonly string[]): ApiError {
  const message =
    "You use the installation's shared provider account. Save a provider key first: PUT /auth/providers/ultravox.";
  const details: ErrorDetail[] = names.map((path) => ({ path, message }));
  return new ApiError("input_invalid", `${names[0]}: ${message}`, { details });
}
