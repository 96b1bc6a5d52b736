import { isIP } from "node:net";
import ipaddr from "ipaddr.js";

/** A block of addresses, as ipaddr.js reads one. */
export type Block = [ipaddr.IPv4 | ipaddr.IPv6, number];

export type AddressRules = {
  /** For development: plain http, any port, loopback and private networks. Never on an installation that faces the internet. */
  allowPrivate: boolean;
  /** What an operator opens of his own networks, block by block. */
  allowed?: readonly Block[];
};

/** Reads `10.1.0.0/16`. Throws when it is no block, or when bits beyond its prefix are set: that is a slip of the pen. */
export function readBlock(text: string): Block {
  const [address, prefix] = ipaddr.parseCIDR(text);
  const kind = address.kind() === "ipv4" ? ipaddr.IPv4 : ipaddr.IPv6;
  const first = kind.networkAddressFromCIDR(text);
  if (first.toString() !== address.toString()) throw new Error(`${text} does not begin where its block begins.`);
  return [address, prefix];
}

/** The wire server of a large cloud: it stands in a public range, and answers only machines inside. */
const forbiddenV4 = new Set(["168.63.129.16"]);

/** The part of IPv6 that is routed between networks, and what within it leads elsewhere or nowhere. */
const globalV6 = ipaddr.IPv6.parseCIDR("2000::/3");
const forbiddenV6 = ["2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"].map((block) =>
  ipaddr.IPv6.parseCIDR(block),
);

/**
 * Is this a machine on the open internet? Everything that is not known to be one is refused, and so are IPv6 addresses
 * that carry an IPv4 address, whichever that is: who has an IPv4 address can be reached by it.
 */
export function isPublicAddress(text: string): boolean {
  if (isIP(text) === 0 || text.includes("%")) return false;
  const address = ipaddr.parse(text);
  if (address.range() !== "unicast") return false;
  if (address instanceof ipaddr.IPv4) return !forbiddenV4.has(address.toString());
  return address.match(globalV6) && !forbiddenV6.some((block) => address.match(block));
}

/** May a connection go there? An address of the operator's own blocks is compared in its own family alone. */
export function mayReach(text: string, { allowPrivate, allowed = [] }: AddressRules): boolean {
  return allowPrivate || isPublicAddress(text) || isAmong(text, allowed);
}

function isAmong(text: string, blocks: readonly Block[]): boolean {
  if (isIP(text) === 0 || text.includes("%")) return false;
  const address = ipaddr.parse(text);
  return blocks.some((block) => block[0].kind() === address.kind() && address.match(block));
}

/** The host as a resolver wants it: no brackets around IPv6, no dot at the end. */
export const hostOf = ({ hostname }: URL) => hostname.replace(/^\[|\]$/g, "").replace(/\.$/, "");

/** What speaks against a URL that a client chose, as a sentence; null if nothing does. Names are looked up only when it is used. */
export function objectionTo(text: string, rules: AddressRules): string | null {
  if (!URL.canParse(text)) return "This is not a URL.";
  const url = new URL(text);
  const host = hostOf(url);
  if (url.username || url.password) return "This URL must carry no user name and no password.";
  if (text.includes("#")) return "This URL must carry no fragment.";
  if (rules.allowPrivate) return /^https?:$/.test(url.protocol) ? null : "This URL must begin with https://.";
  if (isIP(host) && isAmong(host, rules.allowed ?? []) && /^https?:$/.test(url.protocol)) return null;
  if (url.protocol !== "https:") return "This URL must begin with https://.";
  if (url.port !== "" && Number(url.port) < 1024) return "This URL must use port 443, or one from 1024 on.";
  if (isIP(host)) return isPublicAddress(host) ? null : "This address is not on the open internet.";
  if (rules.allowed?.length) return null; // where names of the operator's own networks lead is seen when they are used
  return isPublicName(host) ? null : "This host is not on the open internet.";
}

/** Names that no public name server answers, or that lead into the network of the machine that looks them up. */
const privateNames =
  /\.(localhost|localdomain|local|internal|intranet|private|corp|home|lan|svc|cluster|onion|home\.arpa)$/i;

const isPublicName = (host: string) => host.includes(".") && !privateNames.test(host);

/** The rules for an address that only the provider connects to: our own private networks are not reachable from there. */
const openInternet: AddressRules = { allowPrivate: false };

/** As `objectionTo`, for a URL that only the provider requests. */
export const objectionToProviderUrl = (text: string) => objectionTo(text, openInternet);

/**
 * As `objectionToProviderUrl`, for a host without a URL around it. The URL parser reads the host, so that every spelling
 * of an address (hexadecimal, octal, full-width digits) is the address that a connection would go to.
 */
export function objectionToProviderHost(host: string): string | null {
  if (!/^[^\s/?#@\\%]+$/.test(host) || !URL.canParse(`https://${host}/`)) return "This is not the name of a host.";
  const url = new URL(`https://${host}/`);
  if (url.port !== "" || /:\d*$/.test(host.replace(/^\[.*\]/, ""))) return "This is not the name of a host.";
  const name = hostOf(url);
  if (isIP(name)) return isPublicAddress(name) ? null : "This address is not on the open internet.";
  return isPublicName(name) ? null : "This host is not on the open internet.";
}

/**
 * Headers that say how a message travels, and to whom: chosen by a client they would let it speak to another host, or
 * hide a second message in the first.
 */
const ofTheLine = new Set([
  "connection",
  "content-length",
  "expect",
  "host",
  "http2-settings",
  "keep-alive",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "via",
]);

/**
 * Headers by which proxies and cloud platforms say who a request is from, or which open the metadata service of a cloud:
 * set by a client they would pass for the word of the provider's network, or of ours.
 */
const ofTheNetwork =
  /^(proxy-.*|forwarded|x-forwarded-.*|x-real-ip|x-client-ip|true-client-ip|cf-connecting-ip|x-original-(url|host|uri)|x-rewrite-url|x-http-method(-override)?|x-method-override|metadata|metadata-flavor|x-google-metadata-request|x-metadata-token|x-aws-ec2-metadata-token.*)$/;

/** What speaks against a header that a client chose, as a sentence; null if nothing does. */
export function objectionToHeader(name: string): string | null {
  if (!/^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$/.test(name)) return "This is not the name of a header.";
  const lower = name.toLowerCase();
  return ofTheLine.has(lower) || ofTheNetwork.test(lower) ? `The header ${name} is not yours to set.` : null;
}

/** Printable, without line ends: what a header may hold. */
export const isHeaderValue = (text: string) => /^[\t\x20-\x7e\x80-\xff]*$/.test(text);

export const mostHeaders = 20;
const longestHeaderValue = 2000;

export type HeaderObjection = { name: string | null; message: string };

/**
 * What speaks against headers that a client chose for requests to an address of its own; `name` null: against all of them
 * together. `reserved` says of a name why the sender sets it itself. Counted before they are looked at.
 */
export function objectionsToHeaders(
  headers: Readonly<Record<string, string>>,
  reserved: (lowerCaseName: string, name: string) => string | null,
): HeaderObjection[] {
  const names = Object.keys(headers);
  if (names.length > mostHeaders) return [{ name: null, message: `At most ${mostHeaders} headers.` }];
  const first = new Map<string, string>();
  return names.flatMap((name) => {
    const lower = name.toLowerCase();
    const twin = first.get(lower);
    if (twin === undefined) first.set(lower, name);
    const message =
      reserved(lower, name) ??
      objectionToHeader(name) ??
      objectionToHeaderValue(headers[name]!) ??
      (twin === undefined ? null : `${twin} is the same header.`);
    return message === null ? [] : [{ name, message }];
  });
}

export function objectionToHeaderValue(value: string): string | null {
  if (value.length > longestHeaderValue) return `A value has at most ${longestHeaderValue} characters.`;
  return isHeaderValue(value) ? null : "A value is one line of characters that a header can hold.";
}
