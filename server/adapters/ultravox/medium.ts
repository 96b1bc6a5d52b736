import { dialledUri } from "../../../routers/core/sip-address.ts";
import type { CallMedium } from "../../../routers/ports/ultravox.ts";

type MediumOptions = {
  sipTrunk: string | undefined;
  /** Where Telnyx sends the events of the call; null when we have no public address. */
  legsUrl: string | null;
};

/**
 * `sip.outgoing` takes SIP URIs and refuses bare numbers (openapi: ultravox.v1.SipMedium_SipOutgoing), so a number is
 * dialled at the trunk's host. Returns null when there is no trunk.
 */
export function mediumBody(medium: CallMedium, { sipTrunk, legsUrl }: MediumOptions): Record<string, object> | null {
  if (medium.kind === "web") return { webRtc: {} };
  if (medium.kind === "telnyx" && legsUrl) {
    const { to, from } = medium;
    return { telnyx: { outgoing: { to, from, additionalParams: legParams(legsUrl) } } };
  }
  if (medium.kind !== "sip") return { [medium.kind]: { outgoing: { to: medium.to, from: medium.from } } };
  const to = dialledUri(medium.to, sipTrunk ?? "");
  const from = dialledUri(medium.from, sipTrunk ?? "");
  if (to === null || from === null) return null;
  return { sip: { outgoing: { to, from, username: medium.username, password: medium.password } } };
}

/** Passed on to Telnyx unchanged (TeXML, initiate a call); Telnyx's names are case-sensitive. */
const legParams = (url: string) => ({
  StatusCallback: url,
  StatusCallbackMethod: "POST",
  StatusCallbackEvent: "initiated answered completed",
});
