import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { createServer as createHttp, type RequestListener } from "node:http";
import { type AddressInfo, createServer } from "node:net";
import fc from "fast-check";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { isPublicAddress, mayReach, objectionTo, readBlock } from "../../routers/ports/addresses.ts";
import type { GuardOptions } from "../../server/adapters/http/address-guard.ts";
import { guardedFetch } from "../../server/adapters/http/guarded-fetch.ts";
import { readEnv } from "../../server/env.ts";

const within = (ms = 30_000) => ({ signal: AbortSignal.timeout(ms) });
const opened: { close(): Promise<void> }[] = [];
const open = (options: Partial<GuardOptions> = {}) => {
  const guarded = guardedFetch({ allowPrivate: false, ...options });
  opened.push(guarded);
  return guarded;
};
const get = (url: string) => ({ method: "GET", url, headers: {} });
afterAll(() => Promise.all(opened.map((guarded) => guarded.close())));

/** Each line: what it is, and addresses of it. */
const closed = {
  "this network": "0.0.0.0 0.0.0.1 0.255.255.255",
  private: "10.0.0.0 10.1.2.3 10.255.255.255 172.16.0.0 172.31.255.255 192.168.0.0 192.168.255.255",
  "shared by a carrier": "100.64.0.0 100.100.100.200 100.127.255.255",
  loopback: "127.0.0.0 127.0.0.1 127.1.2.3 127.255.255.255 ::1",
  "link-local": "169.254.0.0 169.254.169.254 169.254.170.2 169.254.255.255 fe80:: fe80::1 fe80::1%eth0 febf:ffff::1",
  "of the protocol": "192.0.0.0 192.0.0.8 192.0.0.170 192.0.0.192 192.0.0.255",
  "for documents":
    "192.0.2.0 192.0.2.255 198.51.100.0 198.51.100.255 203.0.113.0 203.0.113.255 2001:db8:: 2001:db8:ffff::1 3fff:: 3fff::1 3fff:fff:ffff::1",
  "6to4 relays": "192.88.99.0 192.88.99.1 192.88.99.255",
  benchmarks: "198.18.0.0 198.19.255.255 2001:2::1",
  multicast: "224.0.0.0 224.0.0.251 239.255.255.255 ff00:: ff02::1 ff0e::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
  reserved: "240.0.0.0 250.1.1.1 255.255.255.254 255.255.255.255 4000::1 5f00::1 8000::1 e000::1",
  "of a cloud": "168.63.129.16 fd00:ec2::254 fd20:ce::254",
  unspecified: "::",
  "IPv4 within IPv6":
    "::ffff:127.0.0.1 ::ffff:7f00:1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:8.8.8.8 ::ffff:808:808",
  "IPv4 within IPv6, the old way":
    "::127.0.0.1 ::7f00:1 ::8.8.8.8 ::2 ::ffff:0:7f00:1 ::ffff:0:127.0.0.1 ::5efe:7f00:1 ::5efe:127.0.0.1",
  NAT64:
    "64:ff9b::7f00:1 64:ff9b::127.0.0.1 64:ff9b::10.0.0.1 64:ff9b::a9fe:a9fe 64:ff9b::8.8.8.8 64:ff9b:1::1 64:ff9b:1:ffff::1",
  Teredo: "2001:: 2001::1 2001:0:53aa:64c:0:0:80ff:fffe",
  "for special uses": "2001:1::1 2001:1::2 2001:3::1 2001:4:112::1 2001:10::1 2001:20::1 2001:1ff:ffff::1",
  "6to4": "2002:: 2002:7f00:1:: 2002:a00:1::1 2002:a9fe:a9fe::1 2002:808:808::1 2002:ffff:ffff::",
  discarded: "100:: 100::1 100::ffff:ffff:ffff:ffff 100:0:0:1::1",
  "unique local": "fc00:: fc00::1 fd00::1 fdff:ffff::1",
  "site-local": "fec0:: fec0::1 feff::1",
  "no address as a resolver gives one":
    "nonsense 127.1 0x7f.1 0x7f000001 2130706433 134744072 8.8.8 08.8.8.8 8.8.8.8. 8.8.8.8/32 1.1.1.256 [2606:4700::1] 2606:4700:4700::1111%eth0 localhost example.com",
} as const;
const reachable = {
  "below and above what is closed":
    "1.0.0.0 1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 93.184.216.34 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1 168.63.129.15 168.63.129.17 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.3.0 192.88.98.255 192.88.100.1 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 198.51.99.255 198.51.101.0 203.0.112.255 203.0.114.0 223.255.255.255",
  "of IPv6":
    "2000::1 2001:200::1 2001:4860:4860::8888 2001:db7:ffff::1 2001:db9::1 2003::1 2606:4700:4700::1111 2a00:1450:4001::1 3ffe::1 3fff:1000::1",
} as const;
const table = (groups: Record<string, string>) =>
  Object.entries(groups).flatMap(([group, list]) => list.split(" ").map((address) => [address, group] as const));
const asHost = (address: string) => (address.includes(":") ? `[${address}]` : address);

describe("an address", () => {
  test("has vectors enough", () => {
    expect(table(closed).length + table(reachable).length).toBeGreaterThan(120);
    expect(new Set([...table(closed), ...table(reachable)].map(([address]) => address)).size).toBeGreaterThan(120);
  });

  test.each(table(closed))("%s is refused: %s", (address) => expect(isPublicAddress(address)).toBe(false));
  test.each(table(reachable))("%s is on the open internet: %s", (address) => {
    expect(isPublicAddress(address)).toBe(true);
    expect(objectionTo(`https://${asHost(address)}/`, { allowPrivate: false })).toBeNull();
  });

  test("of ten thousand, with the edges of every block among them, none is judged otherwise than by the registry", () => {
    fc.assert(
      fc.property(anyV4, (address) => {
        expect(isPublicAddress(v4Text(address)), v4Text(address)).toBe(!isIn(address, registryV4, 32n));
      }),
      { numRuns: 10_000, seed: 20_261_123 },
    );
    fc.assert(
      fc.property(anyV6, (address) => {
        const isOpen = isIn(address, ["2000::/3"], 128n) && !isIn(address, registryV6, 128n);
        expect(isPublicAddress(v6Text(address)), v6Text(address)).toBe(isOpen);
        expect(objectionTo(`https://[${v6Text(address)}]/`, { allowPrivate: false }) === null).toBe(isOpen);
      }),
      { numRuns: 10_000, seed: 20_261_124 },
    );
  });

  test("written so that it does not look like one is still what it is", () => {
    const disguises =
      "0x7f.1 2130706433 017700000001 0177.0.0.1 127.1 0x7f000001 ①②⑦.⓪.⓪.① １２７.0.0.1 127。0。0。1 127.0.0.1. [::ffff:7f00:1] [0:0:0:0:0:0:0:1] 127.0.0.1.. localhost.. db.internal..";
    for (const host of disguises.split(" ")) {
      expect(objectionTo(`https://${host}/`, { allowPrivate: false }), host).not.toBeNull();
    }
  });

  test("of an operator's own network may be opened, block by block, in its own family alone", () => {
    const rules = { allowPrivate: false, allowed: ["10.1.0.0/16", "fd12::/48"].map(readBlock) };
    for (const address of ["10.1.0.0", "10.1.255.255", "fd12::1", "8.8.8.8"])
      expect(mayReach(address, rules)).toBe(true);
    for (const address of ["10.0.255.255", "10.2.0.0", "::ffff:10.1.0.1", "fd12:0:1::1", "127.0.0.1", "fd12::1%eth0"]) {
      expect(mayReach(address, rules), address).toBe(false);
    }
    expect(objectionTo("http://10.1.2.3:8080/x", rules)).toBeNull();
    expect(objectionTo("https://crm.internal/x", rules)).toBeNull();
    for (const url of ["http://10.2.2.3/", "http://crm.internal/", "ftp://10.1.2.3/", "https://127.0.0.1/"]) {
      expect(objectionTo(url, rules), url).not.toBeNull();
    }
  });

  test("an address block is read from the environment, and a malformed one is reported", () => {
    const key = Buffer.alloc(32, 1).toString("base64");
    const env = (blocks: string) =>
      readEnv({
        DATABASE_URL: "postgres://nobody@127.0.0.1:1/none",
        APP_SECRET: key,
        VAULT_MASTER_KEY: key,
        AUTH_ISSUER: "https://issuer.test/",
        AUTH_AUDIENCE: "test",
        AUTH_CLIENTS_CLAIM: "https://issuer.test/clients",
        ULTRAVOX_API_KEY: "key",
        ULTRAVOX_WEBHOOK_SECRETS: "secret",
        PRIVATE_ADDRESSES_ALLOWED: blocks,
      }).PRIVATE_ADDRESSES_ALLOWED;
    expect(env("10.1.0.0/16, fd12::/48").map(([address, bits]) => `${address}/${bits}`)).toEqual([
      "10.1.0.0/16",
      "fd12::/48",
    ]);
    expect(env("")).toEqual([]);
    for (const wrong of ["10.1.0.0", "10.1.0.1/16", "10.1.0.0/33", "all", "fd12::1/48", "10.0.0.0/8,"]) {
      expect(() => env(wrong), wrong).toThrow("PRIVATE_ADDRESSES_ALLOWED: must be a list of blocks");
    }
  });
});

describe("a name", () => {
  let names: Awaited<ReturnType<typeof nameServer>>;
  let canary: Awaited<ReturnType<typeof openCanary>>;
  beforeAll(async () => {
    names = await nameServer();
    canary = await openCanary();
    return () => Promise.all([names.close(), canary.close()]);
  });
  afterEach(() => {
    canary.connections = 0;
    names.asked.length = 0;
  });
  const through = (options: Partial<GuardOptions> = {}) => open({ nameServers: [names.address], ...options });
  const at = (host: string, scheme = "https") => `${scheme}://${host}:${canary.port}/`;

  test("that leads to the canary reaches it if allowed: so the tests below can fail", async () => {
    names.answers("open.example", ["127.0.0.1"]);
    const allowed = through({ allowed: [readBlock("127.0.0.0/8")] });
    await expect(allowed.fetch(get(at("open.example")), within())).rejects.toMatchObject({
      reason: expect.stringMatching(/^(tls|connection)_failed$/),
    });
    const laptop = through({ allowPrivate: true });
    await expect(laptop.fetch(get(at("open.example", "http")), within())).rejects.toThrow();
    expect(canary.connections).toBe(2);
  });

  test("that changes its mind between the look and the step reaches nothing", async () => {
    const guarded = through({ connectTimeoutMs: 300 });
    names.answers("rebind.example", ["240.0.0.1"], ["127.0.0.1"]);
    await expect(guarded.fetch(get(at("rebind.example")), within())).rejects.toMatchObject({
      reason: "address_forbidden",
    });
    // The first address must be public, or the second would not be resolved; no server listens there.
    names.answers("rebind.example", ["93.184.216.34"], ["127.0.0.1"]);
    const first = await guarded.fetch(get(at("rebind.example")), within()).catch((error) => error);
    expect(["connection_failed", "timeout"]).toContain(first.reason);
    expect(
      names.asked.filter((asked) => asked === "A rebind.example"),
      "one look per connection",
    ).toHaveLength(2);
    for (let again = 0; again < 3; again++) {
      await expect(guarded.fetch(get(at("rebind.example")), within())).rejects.toMatchObject({
        reason: "address_forbidden",
      });
    }
    expect(canary.connections).toBe(0);
  });

  test.each([
    [["127.0.0.1"]],
    [["93.184.216.34", "127.0.0.1"]],
    [["127.0.0.1", "93.184.216.34"]],
    [["::1"]],
    [["93.184.216.34", "::1"]],
    [["::ffff:127.0.0.1"]],
    [["64:ff9b::7f00:1"]],
    [["2002:7f00:1::"]],
    [["0.0.0.0"]],
    [["169.254.169.254"]],
  ])("with %j among its addresses is refused altogether", async (addresses) => {
    names.answers("mixed.example", addresses);
    await expect(through().fetch(get(at("mixed.example")), within())).rejects.toMatchObject({
      reason: "address_forbidden",
    });
    expect(canary.connections).toBe(0);
  });

  test("that does not exist is reported as such, and so is one that only the machine has", async () => {
    names.answers("nobody.example", []);
    await expect(through().fetch(get(at("nobody.example")), within())).rejects.toMatchObject({
      reason: "name_not_resolved",
    });
    for (const host of ["localhost", "localhost.", "app.localhost", "db.internal", "printer.local", "intranet"]) {
      await expect(through().fetch(get(at(host)), within()), host).rejects.toMatchObject({
        reason: "address_forbidden",
      });
    }
    expect(names.asked.filter((asked) => !asked.includes("nobody"))).toEqual([]);
    expect(canary.connections).toBe(0);
  });

  test("is not needed: a literal address is refused without a look-up", async () => {
    for (const host of ["127.0.0.1", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "127.0.0.1."]) {
      for (const scheme of ["https", "http"]) {
        await expect(through().fetch(get(at(host, scheme)), within()), host).rejects.toMatchObject({
          reason: "address_forbidden",
        });
      }
    }
    expect(canary.connections).toBe(0);
  });

  test.each(["ftp://93.184.216.34/", "file:///etc/passwd", "gopher://93.184.216.34/", "http://93.184.216.34/"])(
    "is not all there is: %s is refused for its scheme",
    async (url) => {
      await expect(through().fetch(get(url), within())).rejects.toMatchObject({ reason: "address_forbidden" });
    },
  );

  test.each(["https://93.184.216.34:22/", "https://93.184.216.34:25/", "https://a:b@93.184.216.34/"])(
    "nor is the address: %s is refused",
    async (url) => {
      await expect(through().fetch(get(url), within())).rejects.toMatchObject({ reason: "address_forbidden" });
    },
  );
});

describe("an answer", () => {
  let target: Awaited<ReturnType<typeof openTarget>>;
  const guarded = open({ allowed: [readBlock("127.0.0.1/32")] });
  beforeAll(async () => {
    target = await openTarget();
    return () => target.close();
  });

  test("returns its status, its headers and its body, and the request arrives unchanged", async () => {
    target.answer = (request, response) => {
      response.writeHead(418, { "x-one": "1", "set-cookie": ["a=1", "b=2"] }).end(`${request.method} ${request.url}`);
    };
    const request = { method: "put", url: `${target.url}/p?q=1`, headers: { "x-mine": "yes" }, body: "{}" };
    const answer = await guarded.fetch(request, within());
    expect(answer).toMatchObject({ status: 418, body: "PUT /p?q=1", truncated: false });
    expect(answer.headers).toMatchObject({ "x-one": "1", "set-cookie": "a=1, b=2" });
    expect(answer.milliseconds).toBeGreaterThanOrEqual(0);
    expect(target.seen.at(-1)).toMatchObject({ method: "PUT", headers: { "x-mine": "yes", "content-length": "2" } });
  });

  test("a redirect is a response: it is not followed", async () => {
    target.answer = (_, response) => response.writeHead(302, { location: `${target.url}/elsewhere` }).end();
    const before = target.seen.length;
    expect((await guarded.fetch(get(`${target.url}/first`), within())).status).toBe(302);
    expect(target.seen.slice(before).map(({ url }) => url)).toEqual(["/first"]);
  });

  test("is cut at the requested size, and its connection closed", async () => {
    let written = 0;
    target.answer = (_, response) => {
      const pour = () => {
        if (response.destroyed || written > 100_000_000) return;
        written += 65_536;
        if (response.write(Buffer.alloc(65_536, "a"))) setImmediate(pour);
        else response.once("drain", pour);
      };
      pour();
    };
    const answer = await guarded.fetch({ ...get(target.url), maxBytes: 1000 }, within());
    expect(answer).toMatchObject({ body: "a".repeat(1000), truncated: true });
    expect(written).toBeLessThan(20_000_000);
  });

  test("that drips is cut at the deadline, wherever it drips", async () => {
    for (const early of [true, false]) {
      target.answer = (_, response) => {
        if (early) response.writeHead(200);
        const drops = setInterval(() => (early ? response.write(".") : response.writeProcessing()), 30);
        response.once("close", () => clearInterval(drops));
      };
      await expect(guarded.fetch(get(target.url), within(300))).rejects.toMatchObject({ reason: "timeout" });
    }
  });

  test("does not come by a proxy of the environment", async () => {
    target.answer = (_, response) => response.end("straight");
    for (const name of ["http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"]) vi.stubEnv(name, "http://127.0.0.1:9");
    try {
      const { fetch } = open({ allowed: [readBlock("127.0.0.1/32")] });
      expect((await fetch(get(target.url), within())).body).toBe("straight");
    } finally {
      vi.unstubAllEnvs();
    }
  });

  test.each([
    { Host: "metadata.internal" },
    { "content-length": "1" },
    { "Transfer-Encoding": "chunked" },
    { connection: "close" },
    { "keep-alive": "1" },
    { Upgrade: "h2c" },
    { Expect: "100-continue" },
    { TE: "trailers" },
    { trailer: "x" },
    { "proxy-authorization": "x" },
    { "x y": "1" },
    { "": "1" },
    { "x-split": "a\r\nHost: b" },
    { "x-nul": "a\u0000b" },
    { "x-wide": "é漢" },
  ])("is not sent with %j", async (headers) => {
    const before = target.seen.length;
    const asked = { ...get(target.url), headers: headers as unknown as Record<string, string> };
    await expect(guarded.fetch(asked, within())).rejects.toMatchObject({ reason: "request_malformed" });
    expect(target.seen).toHaveLength(before);
  });

  test.each(["CONNECT", "TRACE", "GET / HTTP/1.1\r\n", ""])("is not sent with the method %j", async (method) => {
    await expect(guarded.fetch({ ...get(target.url), method }, within())).rejects.toMatchObject({
      reason: "request_malformed",
    });
  });
});

/** The registry of addresses for special uses, in a hand other than the code's: first address and length. */
const registryV4 = (
  "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 " +
  "192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 168.63.129.16/32 " +
  // Anycast for reverse names and for multicast: no server of a client.
  "192.31.196.0/24 192.52.193.0/24 192.175.48.0/24"
).split(" ");
const registryV6 = "2001::/23 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20".split(" ");

const v4Text = (address: bigint) => [24n, 16n, 8n, 0n].map((shift) => (address >> shift) & 255n).join(".");
const v6Text = (address: bigint) =>
  Array.from({ length: 8 }, (_, index) => ((address >> BigInt(112 - index * 16)) & 0xffffn).toString(16)).join(":");

function firstOf(text: string): bigint {
  if (!text.includes(":")) return text.split(".").reduce((sum, part) => sum * 256n + BigInt(part), 0n);
  const [head = "", tail = ""] = text.split("::");
  const [left, right] = [head, tail].map((side) => side.split(":").filter(Boolean));
  const middle = Array.from({ length: 8 - left!.length - right!.length }, () => "0");
  return [...left!, ...middle, ...right!].reduce((sum, part) => sum * 65_536n + BigInt(`0x${part}`), 0n);
}

function isIn(address: bigint, blocks: readonly string[], bits: bigint): boolean {
  return blocks.some((block) => {
    const [first, length] = block.split("/");
    const shift = bits - BigInt(length!);
    return address >> shift === firstOf(first!) >> shift;
  });
}

/** Anywhere, or at an edge of a block, or a step beside it. */
function near(blocks: readonly string[], bits: bigint) {
  const edges = blocks.flatMap((block) => {
    const [first, length] = block.split("/");
    const start = firstOf(first!);
    const end = start + (1n << (bits - BigInt(length!))) - 1n;
    return [start - 1n, start, start + 1n, end - 1n, end, end + 1n];
  });
  const max = (1n << bits) - 1n;
  return fc.constantFrom(...edges.filter((edge) => edge >= 0n && edge <= max));
}
const anyV4 = fc.oneof(fc.bigInt({ min: 0n, max: (1n << 32n) - 1n }), near(registryV4, 32n));
const anyV6 = fc.oneof(
  fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }),
  fc.bigInt({ min: firstOf("2000::"), max: firstOf("4000::") - 1n }),
  near([...registryV6, "2000::/3", "fc00::/7", "fe80::/10", "ff00::/8", "::/8", "64:ff9b::/96"], 128n),
);

/** A name server on this machine. A name may return different addresses in turn; the last one stays. */
async function nameServer() {
  const scripts = new Map<string, string[][]>();
  const asked: string[] = [];
  const socket: Socket = createSocket("udp4");
  const turn = new Map<string, number>();
  socket.on("message", (query, from) => {
    const { name, type, end } = questionOf(query);
    asked.push(`${type === 1 ? "A" : "AAAA"} ${name}`);
    const script = scripts.get(name) ?? [[]];
    const at = turn.get(`${type} ${name}`) ?? 0;
    turn.set(`${type} ${name}`, at + 1);
    const addresses = script[Math.min(at, script.length - 1)]!.filter((one) => one.includes(":") === (type === 28));
    socket.send(answerTo(query, end, addresses), from.port, from.address);
  });
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  return {
    address: `127.0.0.1:${socket.address().port}`,
    asked,
    answers(name: string, ...script: string[][]) {
      scripts.set(name, script);
      for (const type of [1, 28]) turn.delete(`${type} ${name}`);
    },
    close: () => new Promise<void>((resolve) => socket.close(() => resolve())),
  };
}

function questionOf(query: Buffer) {
  const labels: string[] = [];
  let at = 12;
  for (let length = query[at]!; length > 0; length = query[at]!) {
    labels.push(query.toString("latin1", at + 1, at + 1 + length));
    at += 1 + length;
  }
  return { name: labels.join(".").toLowerCase(), type: query.readUInt16BE(at + 1), end: at + 5 };
}

function answerTo(query: Buffer, end: number, addresses: string[]): Buffer {
  const head = Buffer.from(query.subarray(0, 12));
  head.writeUInt16BE(0x8180, 2);
  head.writeUInt16BE(addresses.length, 6);
  head.writeUInt16BE(0, 10);
  const records = addresses.map((address) => {
    const v6 = address.includes(":");
    const plain = address.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, ...parts) => {
      const [a, b, c, d] = parts.slice(0, 4).map(Number);
      return `${((a! << 8) | b!).toString(16)}:${((c! << 8) | d!).toString(16)}`;
    });
    const hex = v6 ? firstOf(plain).toString(16).padStart(32, "0") : firstOf(address).toString(16).padStart(8, "0");
    const data = Buffer.from(hex, "hex");
    const fixed = Buffer.from([0xc0, 12, 0, v6 ? 28 : 1, 0, 1, 0, 0, 0, 0, 0, data.length]);
    return Buffer.concat([fixed, data]);
  });
  return Buffer.concat([head, query.subarray(12, end), ...records]);
}

/** Counts connections, and closes them. */
async function openCanary() {
  const canary = { connections: 0, port: 0, close: async () => {} };
  const server = createServer((socket) => {
    canary.connections += 1;
    socket.on("error", () => {}).destroy();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  canary.port = (server.address() as AddressInfo).port;
  canary.close = () => new Promise((resolve) => server.close(() => resolve()));
  return canary;
}

async function openTarget() {
  const target = {
    url: "",
    answer: ((_, response) => response.end()) as RequestListener,
    seen: [] as { method: string | undefined; url: string | undefined; headers: Record<string, unknown> }[],
    close: async () => {},
  };
  const server = createHttp((request, response) => {
    target.seen.push({ method: request.method, url: request.url, headers: request.headers });
    request.resume();
    target.answer(request, response);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  target.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  target.close = async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  return target;
}
