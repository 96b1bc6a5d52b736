import { isIP } from "node:net";
import ipaddr from "ipaddr.js";

/** A block of addresses, in the form of ipaddr.js. */
export type Block = [ipaddr.IPv4 | ipaddr.IPv6, number];

export type AddressRules = {
  /** For development only: plain http, any port, loopback and private networks. Never set it on a public installation. */
  allowPrivate: boolean;
  /** Blocks of the operator's own networks that are allowed. */
  allowed?: readonly Block[];
};

/** Parses a block such as `10.1.0.0/16`. Throws if it is invalid, or has bits set beyond its prefix (a typing error). */
export function readBlock(text: string): Block {
  const [address, prefix] = ipaddr.parseCIDR(text);
  const kind = address.kind() === "ipv4" ? ipaddr.IPv4 : ipaddr.IPv6;
  const first = kind.networkAddressFromCIDR(text);
  if (first.toString() !== address.toString())
    throw new Error(`${text} has bits set beyond its prefix. Write the first address of the block.`);
  return [address, prefix];
}

/** The wire server of a large cloud: in a public range, but reachable only from inside that cloud. */
const forbiddenV4 = new Set(["168.63.129.16"]);

/** The global range of IPv6, and the blocks in it that are not ordinary public addresses. */
const globalV6 = ipaddr.IPv6.parseCIDR("2000::/3");
const forbiddenV6 = ["2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"].map((block) =>
  ipaddr.IPv6.parseCIDR(block),
);

/**
 * Whether this address is on the public internet. Anything unknown is refused, and so is every IPv6 address that embeds an
 * IPv4 address: such a host is reachable by the IPv4 address itself.
 */
export function isPublicAddress(text: string): boolean {
  if (isIP(text) === 0 || text.includes("%")) return false;
  const address = ipaddr.parse(text);
  if (address.range() !== "unicast") return false;
  if (address instanceof ipaddr.IPv4) return !forbiddenV4.has(address.toString());
  return address.match(globalV6) && !forbiddenV6.some((block) => address.match(block));
}

/** Whether a connection to the address is allowed. The operator's blocks match addresses of their own family only. */
export function mayReach(text: string, { allowPrivate, allowed = [] }: AddressRules): boolean {
  return allowPrivate || isPublicAddress(text) || isAmong(text, allowed);
}

/** Whether the address is in one of the blocks. An invalid address is in none. */
export function isAmong(text: string, blocks: readonly Block[]): boolean {
  if (isIP(text) === 0 || text.includes("%")) return false;
  const address = ipaddr.parse(text);
  return blocks.some((block) => block[0].kind() === address.kind() && address.match(block));
}

/** The host in the form for a resolver: no brackets around IPv6, no trailing dot. */
export const hostOf = ({ hostname }: URL) => hostname.replace(/^\[|\]$/g, "").replace(/\.$/, "");

/**
 * Parsers read these differently: in `https://a.example\@10.0.0.1/` ours finds the host a.example, another one 10.0.0.1. The
 * provider gets some URLs as they were written, so one that is not plainly written is refused.
 */
const ambiguous = /[\s\\\p{Cc}]|^https?:(?!\/\/[^/@?#])/iu;

/** Why a client's URL is refused, as a sentence; null if it is allowed. Names are resolved only when the URL is used. */
export function objectionTo(text: string, rules: AddressRules): string | null {
  if (!URL.canParse(text) || ambiguous.test(text)) return "This is not a valid URL.";
  const url = new URL(text);
  const host = hostOf(url);
  if (url.username || url.password) return "This URL must not contain a user name or password.";
  if (text.includes("#")) return "This URL must not contain a fragment.";
  if (rules.allowPrivate) return /^https?:$/.test(url.protocol) ? null : "This URL must begin with https://.";
  if (isIP(host) && isAmong(host, rules.allowed ?? []) && /^https?:$/.test(url.protocol)) return null;
  if (url.protocol !== "https:") return "This URL must begin with https://.";
  if (url.port !== "" && Number(url.port) < 1024) return "This URL must use port 443, or a port from 1024.";
  if (isIP(host)) return isPublicAddress(host) ? null : "This address is not on the public internet.";
  if (rules.allowed?.length) return null; // names can lead to the operator's networks, which is checked when the URL is used
  return isPublicName(host) ? null : "This host is not on the public internet.";
}

/** Names that public DNS does not resolve, or that resolve inside the network of the resolving machine. */
const privateNames =
  /\.(localhost|localdomain|local|internal|intranet|private|corp|home|lan|svc|cluster|onion|home\.arpa)$/i;

/** Without an empty label: `db.internal..` ends in none of the names above. */
const isPublicName = (host: string) => /^[^.]+(\.[^.]+)+$/.test(host) && !privateNames.test(host);

/** The rules for an address that only the provider connects to: it cannot reach our private networks. */
const publicInternet: AddressRules = { allowPrivate: false };

/** As `objectionTo`, for a URL that only the provider connects to. */
export const objectionToProviderUrl = (text: string) => objectionTo(text, publicInternet);

/**
 * As `objectionToProviderUrl`, for a host only. The URL parser reads the host, so that every spelling of an address
 * (hexadecimal, octal, full-width digits) is checked as the address that a connection would use.
 */
export function objectionToProviderHost(host: string): string | null {
  if (!/^[^\s/?#@\\%]+$/.test(host) || !URL.canParse(`https://${host}/`)) return "This is not a valid host name.";
  const url = new URL(`https://${host}/`);
  if (url.port !== "" || /:\d*$/.test(host.replace(/^\[.*\]/, ""))) return "This is not a valid host name.";
  const name = hostOf(url);
  if (isIP(name)) return isPublicAddress(name) ? null : "This address is not on the public internet.";
  return isPublicName(name) ? null : "This host is not on the public internet.";
}

/**
 * Headers that control the connection and the routing of a message. A client that sets them could reach another host, or
 * smuggle a second request.
 */
const connectionHeaders = new Set([
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
 * Headers of proxies and cloud platforms that identify the sender, or that open the metadata service of a cloud. A client
 * that sets them could pretend to be the provider's network, or ours.
 */
const networkHeaders =
  /^(proxy-.*|forwarded|x-forwarded-.*|x-real-ip|x-client-ip|true-client-ip|cf-connecting-ip|x-original-(url|host|uri)|x-rewrite-url|x-http-method(-override)?|x-method-override|metadata|metadata-flavor|x-google-metadata-request|x-metadata-token|x-aws-ec2-metadata-token.*)$/;

/** Why a client's header is refused, as a sentence; null if it is allowed. */
export function objectionToHeader(name: string): string | null {
  if (!/^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$/.test(name)) return "This is not a valid header name.";
  const lower = name.toLowerCase();
  return connectionHeaders.has(lower) || networkHeaders.test(lower) ? `The header ${name} cannot be set.` : null;
}

/** Printable characters without line breaks. */
export const isHeaderValue = (text: string) => /^[\t\x20-\x7e\x80-\xff]*$/.test(text);

export const maxHeaders = 20;
const maxHeaderValue = 2000;

export type HeaderObjection = { name: string | null; message: string };

/**
 * Why a client's headers for requests to its own URL are refused. `name` null: an objection to all of them together.
 * `reserved` returns why a name is set by the sender, or null. The number of headers is checked first.
 */
export function objectionsToHeaders(
  headers: Readonly<Record<string, string>>,
  reserved: (lowerCaseName: string, name: string) => string | null,
): HeaderObjection[] {
  const names = Object.keys(headers);
  if (names.length > maxHeaders) return [{ name: null, message: `Use at most ${maxHeaders} headers.` }];
  const first = new Map<string, string>();
  return names.flatMap((name) => {
    const lower = name.toLowerCase();
    const twin = first.get(lower);
    if (twin === undefined) first.set(lower, name);
    const message =
      reserved(lower, name) ??
      objectionToHeader(name) ??
      objectionToHeaderValue(headers[name]!) ??
      (twin === undefined ? null : `This header is the same as ${twin}. Keep one of them.`);
    return message === null ? [] : [{ name, message }];
  });
}

export function objectionToHeaderValue(value: string): string | null {
  if (value.length > maxHeaderValue) return `A header value has at most ${maxHeaderValue} characters.`;
  return isHeaderValue(value) ? null : "A header value must be one line of printable characters.";
}
