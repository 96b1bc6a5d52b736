import { isIP } from "node:net";
import ipaddr from "ipaddr.js";

export type AddressRules = {
  /** For development: plain http, any port, loopback and private networks. Never on an installation that faces the internet. */
  allowPrivate: boolean;
};

/** The wire server of a large cloud: it stands in a public range, and answers only machines inside. */
const forbiddenV4 = new Set(["168.63.129.16"]);

/** The part of IPv6 that is routed between networks, and what within it leads elsewhere or nowhere. */
const globalV6 = ipaddr.IPv6.parseCIDR("2000::/3");
const forbiddenV6 = ["2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"].map((block) =>
  ipaddr.IPv6.parseCIDR(block),
);

/** Is this a machine on the open internet? Everything that is not known to be one is refused. */
export function isPublicAddress(text: string): boolean {
  if (!ipaddr.isValid(text)) return false;
  const address = ipaddr.parse(text);
  if (address.range() !== "unicast") return false;
  if (address instanceof ipaddr.IPv4) return !forbiddenV4.has(address.toString());
  return address.match(globalV6) && !forbiddenV6.some((block) => address.match(block));
}

/** The host as a resolver wants it: no brackets around IPv6, no dot at the end. */
export const hostOf = ({ hostname }: URL) => hostname.replace(/^\[|\]$/g, "").replace(/\.$/, "");

/** What speaks against a webhook's URL, as a sentence; null if nothing does. Names are looked up only when it is used. */
export function objectionTo(text: string, { allowPrivate }: AddressRules): string | null {
  if (!URL.canParse(text)) return "This is not a URL.";
  const url = new URL(text);
  const host = hostOf(url);
  if (url.username || url.password) return "A webhook URL carries no user name and no password.";
  if (text.includes("#")) return "A webhook URL carries no fragment.";
  if (allowPrivate) return /^https?:$/.test(url.protocol) ? null : "A webhook URL begins with https://.";
  if (url.protocol !== "https:") return "A webhook URL begins with https://.";
  if (url.port !== "" && Number(url.port) < 1024) return "A webhook URL uses port 443, or one from 1024 on.";
  if (isIP(host)) return isPublicAddress(host) ? null : "This address is not on the open internet.";
  if (!host.includes(".") || /\.(localhost|local|internal|home\.arpa)$/i.test(host))
    return "This host is not on the open internet.";
  return null;
}
