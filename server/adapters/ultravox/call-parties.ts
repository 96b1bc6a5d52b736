import type { ProviderCall } from "../../../routers/ports/ultravox.ts";

/**
 * The caller and the called number, as the line gave them. For SIP the provider returns the caller, and the headers of the
 * INVITE (docs.ultravox.ai, telephony/sip). For a carrier it returns the fields that `setCarrier` maps.
 */
export function partiesOf(
  metadata: Record<string, unknown>,
  context: unknown,
): Pick<ProviderCall, "fromRaw" | "toRaw"> {
  const inContext = (...path: string[]) => path.reduce<unknown>((from, name) => fieldOf(from, name), context);
  const of = (name: string) => [metadata[`ultravox.sip.${name}`], inContext("ultravox", "sip", ...name.split("."))];
  return {
    fromRaw: firstText(
      ...of("caller_id"),
      inContext("patchbay", "from"),
      ...of("from_uri"),
      ...of("from_display_name"),
    ),
    toRaw: firstText(inContext("patchbay", "to"), ...of("header.did")),
  };
}

const fieldOf = (from: unknown, name: string): unknown =>
  typeof from === "object" && from !== null && Object.hasOwn(from, name) ? Reflect.get(from, name) : undefined;

const maxPartyLength = 320;

/** The first text that is not empty. */
function firstText(...values: unknown[]): string | null {
  const found = values.find((value): value is string => typeof value === "string" && value.trim() !== "");
  return found === undefined ? null : found.slice(0, maxPartyLength);
}
