import { and, eq, ne } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { prepared } from "../../../db/prepared.ts";
import { credentials } from "../../../db/schema/credentials.ts";
import { telephonyConfigs } from "../../../db/schema/telephony.ts";
import { ApiError } from "../../core/errors.ts";
import { dialledUri, isAtHost, isSipUri, readSipHost } from "../../core/sip-address.ts";
import { ProviderError } from "../../ports/provider-error.ts";
import type { CallMedium } from "../../ports/ultravox.ts";
import type { Vault } from "../../ports/vault.ts";
import type { CreateCall } from "./schema.ts";

/** The medium of a call, with its numbers resolved. */
export type ResolvedMedium = {
  medium: "web" | "sip" | "twilio" | "telnyx" | "plivo";
  to: string | null;
  from: string | null;
};

/** A client's own SIP trunk. Its secret is opened only for the provider request. */
export type SealedTrunk = { credentialId: string; sealed: Buffer; host: string | null };

/** What the client has set up for telephone calls. */
type Telephony = { defaults: { carrier: Carrier | null; from: string | null } | undefined; trunk: SealedTrunk | null };
type Carrier = Exclude<ResolvedMedium["medium"], "web">;

const readDefaults = prepared((db) =>
  db.select({ carrier: telephonyConfigs.defaultCarrier, from: telephonyConfigs.defaultFrom }).from(telephonyConfigs),
);

/** Reads what a call by this medium may need, in one round trip. */
export async function telephonyFor(tx: Tx, medium: CreateCall["medium"]): Promise<Telephony> {
  if (medium.type === "web") return { defaults: undefined, trunk: null };
  const mayUseTrunk = medium.carrier === undefined || medium.carrier === "sip";
  const [[defaults], trunk] = await Promise.all([
    medium.carrier && medium.from ? [] : readDefaults(tx),
    mayUseTrunk ? readTrunk(tx) : null,
  ]);
  return { defaults, trunk };
}

/** Fills in the client's default carrier and number. Throws `input_invalid` with the field's path. */
export function resolveMedium(medium: CreateCall["medium"], { defaults: own }: Telephony): ResolvedMedium {
  if (medium.type === "web") return { medium: "web", to: null, from: null };
  const carrier = medium.carrier ?? own?.carrier ?? "sip";
  const from = medium.from ?? own?.from ?? null;
  if (from === null) {
    throw ApiError.invalid("medium.from", "Give the number to call from: this client has no default number.");
  }
  for (const [field, address] of [["to", medium.to] as const, ["from", from] as const]) {
    if (carrier !== "sip" && isSipUri(address)) {
      const message = `Only the carrier \`sip\` can call SIP addresses. Give ${carrier} an E.164 number.`;
      throw ApiError.invalid(`medium.${field}`, message);
    }
  }
  return { medium: carrier, to: medium.to, from };
}

const findTrunk = prepared((db) =>
  db
    .select({ credentialId: credentials.id, sealed: credentials.sealed, details: credentials.details })
    .from(credentials)
    .where(and(eq(credentials.provider, "sip"), ne(credentials.status, "invalid"))),
);

/** The client's own trunk, if it has a working one. */
async function readTrunk(tx: Tx): Promise<SealedTrunk | null> {
  const [own] = await findTrunk(tx);
  return own ? { credentialId: own.credentialId, sealed: own.sealed, host: own.details.host ?? null } : null;
}

type TrunkSecret = { host?: string; username?: string; password?: string };

/** The medium for the provider request, with the client's own trunk if there is one. Throws ProviderError. */
export async function toProviderMedium(
  vault: Vault,
  clientId: string,
  { medium, to, from }: ResolvedMedium,
  trunk: SealedTrunk | null,
): Promise<CallMedium> {
  if (medium === "web" || to === null || from === null) return { kind: "web" };
  if (medium !== "sip" || trunk === null) return { kind: medium, to, from };
  const { host = trunk.host, username, password } = await openTrunk(vault, clientId, trunk);
  const server = readSipHost(host ?? "").value;
  if (!host || !server) throw new ProviderError("refused", unusableTrunk);
  const [called, caller] = [dialledUri(to, host), dialledUri(from, host)];
  if (called === null || caller === null) throw new ProviderError("refused", unusableTrunk);
  // The password of the client's trunk goes to the trunk's own host only.
  const isTrunkHost = isAtHost(called, server);
  const secret = isTrunkHost && username !== undefined && password !== undefined ? { username, password } : {};
  return { kind: "sip", to: called, from: caller, ...secret };
}

const unusableTrunk =
  "The host of the client's own SIP trunk cannot be dialled. Save the credential again: PUT /auth/providers/sip.";

/** Nothing has been sent yet, so a vault failure means that nothing happened. */
async function openTrunk(vault: Vault, clientId: string, trunk: SealedTrunk): Promise<TrunkSecret> {
  try {
    const cipher = await vault.keys(clientId, "provider_credential");
    return JSON.parse(cipher.open(trunk.sealed, trunk.credentialId).toString("utf8")) as TrunkSecret;
  } catch (cause) {
    throw new ProviderError("unavailable", "The client's SIP credential could not be decrypted.", { cause });
  }
}
