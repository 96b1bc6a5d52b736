import { eq } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { credentials } from "../../db/schema/credentials.ts";
import { ApiError, type ErrorDetail } from "../core/errors.ts";
import type { Providers } from "../ports/index.ts";
import type { Deadline } from "../ports/provider-error.ts";
import type { ProviderCarrier, ProviderRegistration, ProviderSip } from "../ports/ultravox.ts";
import type { Cipher } from "../ports/vault.ts";
import { ownNumbers } from "./numbers.ts";
import { newestRegistrations, noteRegistered, toRegistration } from "./registrations.ts";
import type { TelephonyConfig, UpdateTelephony } from "./schema.ts";
import { configOf, isShared, newestRoutes, saveConfig } from "./service.ts";

type Seen = { sip: ProviderSip; carriers: ProviderCarrier[]; registrations: ProviderRegistration[] };
type Account = { accountId: string; shared: boolean };

/** What the provider says of an account, all at once. */
export async function seeAccount({ ultravox }: Providers, { accountId }: Account, deadline: Deadline): Promise<Seen> {
  const [sip, carriers, registrations] = await Promise.all([
    ultravox.getSip(accountId, deadline),
    ultravox.listCarriers(accountId, deadline),
    ultravox.listRegistrations(accountId, deadline),
  ]);
  return { sip, carriers, registrations };
}

/** Of an account that is shared, only what every client may know: not whose carriers they are, nor from where calls come. */
export async function describeTelephony(tx: Tx, { shared }: Account, seen: Seen): Promise<TelephonyConfig> {
  const rows = await newestRegistrations(tx, 100);
  const registrations = await noteRegistered(tx, rows, seen.registrations);
  return {
    accountIsShared: shared,
    sip: { domain: seen.sip.domain, allowedCidrRanges: shared ? null : seen.sip.allowedCidrRanges },
    carriers: seen.carriers.map(({ carrier, account, secretPrefix }) => ({
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

export type Wanted = Account & {
  input: UpdateTelephony;
  /** What each carrier is to be set up with; null takes it away. */
  carriers: { carrier: ProviderCarrier["carrier"]; fields: Record<string, string> | null }[];
};

/** Reads what the change needs, and refuses what is not the client's to change. */
export async function planChange(tx: Tx, input: UpdateTelephony, ring: Cipher): Promise<Wanted> {
  const account = await isShared(tx);
  const foreign = (["allowedCidrRanges", "carriers"] as const).filter((name) => input[name] !== undefined);
  if (account.shared && foreign.length > 0) throw notYours(foreign);
  const { twilio, telnyx, plivo } = input.carriers ?? {};
  const carriers: Wanted["carriers"] = [];
  if (twilio !== undefined) {
    const fields = twilio ? await secretOf(tx, ring, "twilio") : null;
    carriers.push({ carrier: "twilio", fields: fields && pick(fields, ["accountSid", "authToken"]) });
  }
  if (plivo !== undefined) {
    const fields = plivo ? await secretOf(tx, ring, "plivo") : null;
    carriers.push({ carrier: "plivo", fields: fields && pick(fields, ["authId", "authToken"]) });
  }
  if (telnyx !== undefined) {
    const fields = telnyx ? await secretOf(tx, ring, "telnyx") : null;
    carriers.push({ carrier: "telnyx", fields: fields && { ...pick(fields, ["apiKey", "publicKey"]), ...telnyx } });
  }
  return { ...account, input, carriers };
}

/** Every step may be repeated: what was done before a failure stays, and the same request does the rest. */
export async function tellAccount(providers: Providers, wanted: Wanted, deadline: Deadline): Promise<Seen> {
  const { ultravox } = providers;
  const { accountId, input, carriers } = wanted;
  if (input.allowedCidrRanges)
    await ultravox.updateSip(accountId, { allowedCidrRanges: input.allowedCidrRanges }, deadline);
  for (const { carrier, fields } of carriers) {
    if (fields) await ultravox.setCarrier(accountId, carrier, fields, deadline);
    else await ultravox.removeCarrier(accountId, carrier, deadline);
  }
  return seeAccount(providers, wanted, deadline);
}

export async function recordChange(tx: Tx, wanted: Wanted, seen: Seen): Promise<TelephonyConfig> {
  const { defaultCarrier, defaultFrom, allowedCidrRanges } = wanted.input;
  await saveConfig(tx, { defaultCarrier, defaultFrom, allowedCidrRanges });
  return describeTelephony(tx, wanted, seen);
}

async function secretOf(tx: Tx, ring: Cipher, provider: "twilio" | "telnyx" | "plivo") {
  const [row] = await tx.select().from(credentials).where(eq(credentials.provider, provider));
  if (!row) {
    const message = `Store a credential for ${provider} first: PUT /auth/providers/${provider}.`;
    throw new ApiError("credential_not_found", message, { details: [{ path: `carriers.${provider}`, message }] });
  }
  const secret = JSON.parse(ring.open(row.sealed, row.id).toString()) as Record<string, string>;
  return { ...row.details, ...secret };
}

const pick = (fields: Record<string, string>, names: string[]) =>
  Object.fromEntries(names.flatMap((name) => (fields[name] === undefined ? [] : [[name, fields[name]]])));

function notYours(names: readonly string[]): ApiError {
  const message =
    "You share the installation's provider account. Give your own key first: PUT /auth/providers/ultravox.";
  const details: ErrorDetail[] = names.map((path) => ({ path, message }));
  return new ApiError("input_invalid", `${names[0]}: ${message}`, { details });
}
