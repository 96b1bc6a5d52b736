import type { IncomingMessage } from "node:http";
import { expect, test } from "vitest";
import { readBlock } from "../../routers/ports/addresses.ts";
import { clientAddress } from "../../server/client-address.ts";

const request = (remoteAddress: string, forwarded?: string) =>
  ({ socket: { remoteAddress }, headers: { "x-forwarded-for": forwarded } }) as unknown as IncomingMessage;
const trusted = [readBlock("10.0.0.0/8"), readBlock("fd00::/8")];

test("a proxy header of a stranger is ignored", () => {
  expect(clientAddress(request("203.0.113.9", "198.51.100.1"), trusted)).toBe("203.0.113.9");
  expect(clientAddress(request("10.0.0.1", "198.51.100.1"), [])).toBe("10.0.0.1");
});

test("the caller is the last address that no proxy of this installation has", () => {
  expect(clientAddress(request("10.0.0.1", "1.2.3.4, 198.51.100.1, 10.9.9.9"), trusted)).toBe("198.51.100.1");
  expect(clientAddress(request("::ffff:10.0.0.1", "198.51.100.1"), trusted)).toBe("198.51.100.1");
  expect(clientAddress(request("fd00::1", "198.51.100.1"), trusted)).toBe("198.51.100.1");
});

test("what is no address ends the search", () => {
  expect(clientAddress(request("10.0.0.1", "198.51.100.1, unknown"), trusted)).toBe("10.0.0.1");
  expect(clientAddress(request("10.0.0.1", ""), trusted)).toBe("10.0.0.1");
});

test("the IPv6 addresses of one subscriber are one caller", () => {
  expect(clientAddress(request("2001:db8:1:2:3::4"), trusted)).toBe("2001:db8:1:2::");
  expect(clientAddress(request("2001:db8:1:2:ffff::5%eth0"), trusted)).toBe("2001:db8:1:2::");
});
