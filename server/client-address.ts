import type { IncomingMessage } from "node:http";
import ipaddr from "ipaddr.js";
import { type Block, isAmong } from "../routers/ports/addresses.ts";

/** An IPv6 subscriber has at least this block: its addresses count as one. */
const v6Prefix = 64;

/**
 * The address of the caller. `X-Forwarded-For` counts only as far as proxies of this installation wrote it: everything to
 * the left of the first address that is not one of them is the caller's own text.
 */
export function clientAddress(req: IncomingMessage, trusted: readonly Block[]): string {
  const given = req.headers["x-forwarded-for"];
  const hops = given === undefined ? [] : String(given).split(",");
  let address = plain(req.socket.remoteAddress ?? "");
  while (hops.length > 0 && isAmong(address, trusted)) {
    const next = plain(hops.pop()!.trim());
    if (!ipaddr.isValid(next)) break;
    address = next;
  }
  return blockOf(address);
}

/** An IPv4 address in IPv6 form, as a dual-stack socket reports it, is the IPv4 address. */
const plain = (address: string) => (ipaddr.isValid(address) ? ipaddr.process(address).toString() : address);

function blockOf(address: string): string {
  if (!ipaddr.IPv6.isValid(address)) return address;
  return ipaddr.IPv6.networkAddressFromCIDR(`${address.replace(/%.*$/, "")}/${v6Prefix}`).toString();
}
