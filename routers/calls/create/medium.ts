import { and, eq, ne } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { credentials } from "../../../db/schema/credentials.ts";
import { telephonyConfigs } from "../../../db/schema/telephony.ts";
import { ApiError } from "../../core/errors.ts";
import { dialledUri, isAtHost, isSipUri, readSipHost } from "../../core/sip-address.ts";
import { ProviderError } from "../../ports/provider-error.ts";
import type { CallMedium } from "../../ports/ultravox.ts";
import type { Vault } from "../../ports/vault.ts";
import type { CreateCall } from "../schema.ts";

/** Where the call goes, and over what. */
export type Line = {
  medium: "web" | "sip" | "twilio" | "telnyx" | "plivo";
  to: string | null;
  from: string | null;
};

/** A client's own SIP trunk. Its secret is opened only when the provider is asked. */
export type SealedTrunk = { credentialId: string; sealed: Buffer; host: string | null };

/** Fills in the client's own carrier and number. Throws Fault `input_invalid`, naming the field. */
export async function resolveMedium(tx: Tx, medium: CreateCall["medium"]): Promise<Line> {
  if (medium.type === "web") return { medium: "web", to: null, from: null };
  const [own] =
    medium.carrier && medium.from
      ? []
      : await tx
          .select({ carrier: telephonyConfigs.defaultCarrier, from: telephonyConfigs.defaultFrom })
          .from(telephonyConfigs);
  const carrier = medium.carrier ?? own?.carrier ?? "sip";
  const from = medium.from ?? own?.from ?? null;
  if (from === null) {
    refuse("medium.from", "Name the number to call from: this client has no default one.");
  }
  for (const [field, address] of [["to", medium.to] as const, ["from", from] as const]) {
    if (carrier !== "sip" && isSipUri(address)) {
      refuse(`medium.${field}`, `Only the carrier \`sip\` calls SIP addresses; ${carrier} takes E.164 numbers.`);
    }
  }
  return { medium: carrier, to: medium.to, from };
}

function refuse(path: string, message: string): never {
  throw new ApiError("input_invalid", `${path}: ${message}`, { details: [{ path, message }] });
}

/** The client's own trunk, where the call goes over SIP and he has one that works. */
export async function trunkFor(tx: Tx, { medium }: Pick<Line, "medium">): Promise<SealedTrunk | null> {
  if (medium !== "sip") return null;
  const [own] = await tx
    .select({ credentialId: credentials.id, sealed: credentials.sealed, details: credentials.details })
    .from(credentials)
    .where(and(eq(credentials.provider, "sip"), ne(credentials.status, "invalid")));
  return own ? { credentialId: own.credentialId, sealed: own.sealed, host: own.details.host ?? null } : null;
}

type TrunkSecret = { host?: string; username?: string; password?: string };

/** The medium as the provider is asked for it: with the client's own trunk, should he have one. Throws ProviderError. */
export async function toProviderMedium(
  vault: Vault,
  clientId: string,
  { medium, to, from }: Line,
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
  const opens = isAtHost(called, server);
  const secret = opens && username !== undefined && password !== undefined ? { username, password } : {};
  return { kind: "sip", to: called, from: caller, ...secret };
}

const unusableTrunk =
  "The host of the client's own SIP trunk cannot be dialled. Save the credential again: PUT /auth/providers/sip.";

/** Nothing has been sent yet: should the vault not open, nothing has happened. */
async function openTrunk(vault: Vault, clientId: string, trunk: SealedTrunk): Promise<TrunkSecret> {
  try {
    const ring = await vault.keys(clientId, "provider_credential");
    return JSON.parse(ring.open(trunk.sealed, trunk.credentialId).toString("utf8")) as TrunkSecret;
  } catch (cause) {
    throw new ProviderError("unavailable", "The client's SIP credential could not be opened", { cause });
  }
}
