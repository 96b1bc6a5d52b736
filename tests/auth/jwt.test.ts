import { createHmac, createPublicKey, type JsonWebKey } from "node:crypto";
import fs from "node:fs/promises";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Identity, type IdentityOptions, startIdentity } from "../../dev/simulators/identity.ts";
import { SetupProblem } from "../../dev/simulators/setup-problem.ts";
import { IdentityUnavailable, type JwtOptions, jwtVerifier, TokenRefused } from "../../server/auth-jwt.ts";

const audience = "https://api.patchbay.test";
const claim = "https://patchbay.dev/client_ids";
const cleanups: (() => Promise<void>)[] = [];
let identity: Identity;

beforeEach(async () => {
  identity = await issuer();
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function issuer(options: Partial<IdentityOptions> = {}): Promise<Identity> {
  const started = await startIdentity({ audience, claim, ...options });
  cleanups.push(() => started.close());
  return started;
}

function verifier(options: Partial<JwtOptions> = {}) {
  return jwtVerifier({ issuer: identity.issuer, audience, leewaySeconds: 10, ...options });
}

async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  cleanups.push(async () => {
    server.closeAllConnections();
    await new Promise((closed) => server.close(closed));
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks.json`;
}

async function refusal(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => "accepted",
    (thrown: unknown) => thrown,
  );
  return error instanceof TokenRefused ? error.reason : String(error);
}

const base64url = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
const decode = (part: string | undefined) => JSON.parse(Buffer.from(part ?? "", "base64url").toString());

const expiryOf = (token: string): number => decode(token.split(".")[1]).exp;

/** The same claims and signature under another header. */
function withHeader(token: string, header: Record<string, unknown>): string {
  const [own, payload, signature] = token.split(".");
  return [base64url({ ...decode(own), ...header }), payload, signature].join(".");
}

async function publishedKeys(): Promise<(JsonWebKey & { kid: string })[]> {
  const body = (await (await fetch(identity.jwksUri)).json()) as { keys: (JsonWebKey & { kid: string })[] };
  return body.keys;
}

test("a valid token yields the subject, the clients and the scopes", async () => {
  const token = await identity.token({ sub: "auth0|ann", clients: ["client_1"], scope: "tools:read tools:write" });
  const verified = await verifier()(token);
  expect(verified).toMatchObject({ subject: "auth0|ann", scopes: ["tools:read", "tools:write"] });
  expect(verified.claims).toMatchObject({ [claim]: ["client_1"], iss: identity.issuer, azp: "patchbay-local" });
  expect(identity.issuer).toMatch(/\/$/);
  expect(decode(token.split(".")[0])).toMatchObject({ alg: "RS256", typ: "JWT" });
});

test("scope and permissions each limit, and only a token without scopes of this API is not limited", async () => {
  const verify = verifier();
  const scopes = async (claims: Record<string, unknown>) =>
    (await verify(await identity.token({ sub: "ann", ...claims }))).scopes;
  expect(await scopes({ scope: "a b", permissions: ["b", "c"] })).toEqual(["b"]);
  expect(await scopes({ scope: "a", permissions: [] })).toEqual([]);
  expect(await scopes({ scope: "", permissions: ["c"] })).toEqual([]);
  expect(await scopes({ permissions: ["c"] })).toEqual(["c"]);
  expect(await scopes({ scope: "openid email", permissions: ["c"] })).toEqual(["c"]);
  expect(await scopes({ scope: "openid email", permissions: [] })).toEqual([]);
  expect(await scopes({ scope: "openid a" })).toEqual(["openid", "a"]);
  expect(await scopes({ scope: "openid email" })).toBeNull();
  expect(await scopes({ scope: "" })).toEqual([]);
  expect(await scopes({})).toBeNull();
});

test("scopes of the wrong shape are refused, not read as none", async () => {
  const verify = verifier();
  for (const claims of [{ scope: 7 }, { scope: null }, { scope: ["a"] }, { permissions: "a" }, { permissions: [1] }]) {
    const token = await identity.token({ sub: "ann", ...(claims as Record<string, unknown>) });
    expect(await refusal(verify(token)), JSON.stringify(claims)).toBe("scope");
  }
});

test("an issuer without its trailing slash is another issuer", async () => {
  const token = await identity.token({ sub: "ann", iss: identity.issuer.slice(0, -1) });
  expect(await refusal(verifier()(token))).toBe("issuer");
});

test("a token for another audience is refused, and one for several audiences that include ours is valid", async () => {
  const verify = verifier();
  expect(await refusal(verify(await identity.token({ sub: "ann", aud: "https://other.test" })))).toBe("audience");
  expect(await refusal(verify(await identity.token({ sub: "ann", aud: [`${audience}/`, "x"] })))).toBe("audience");
  const several = await identity.token({ sub: "ann", aud: [audience, `${identity.issuer}userinfo`] });
  expect((await verify(several)).subject).toBe("ann");
});

test("an expired token is valid within the leeway and refused beyond it", async () => {
  const token = await identity.token({ sub: "ann" });
  const after = (seconds: number) => verifier({ now: () => new Date((expiryOf(token) + seconds) * 1000) });
  expect((await after(9)(token)).subject).toBe("ann");
  expect(await refusal(after(11)(token))).toBe("expired");
});

test("a token of the future is valid within the leeway and refused beyond it", async () => {
  const verify = verifier();
  const seconds = Math.floor(Date.now() / 1000);
  expect((await verify(await identity.token({ sub: "ann", nbf: seconds + 5 }))).subject).toBe("ann");
  expect(await refusal(verify(await identity.token({ sub: "ann", nbf: seconds + 60 })))).toBe("not_yet_valid");
});

test("a token needs a subject and an expiry", async () => {
  const verify = verifier();
  expect(await refusal(verify(await identity.token({ sub: "" })))).toBe("subject");
  expect(await refusal(verify(await identity.token({ sub: undefined as unknown as string })))).toBe("subject");
  expect(await refusal(verify(await identity.token({ sub: "ann", exp: undefined })))).toBe("claims");
});

test("the leeway cannot exceed a minute", () => {
  expect(() => verifier({ leewaySeconds: 61 })).toThrow(RangeError);
  expect(() => verifier({ leewaySeconds: Number.NaN })).toThrow(RangeError);
});

test("a token without a signature is refused", async () => {
  const [, payload] = (await identity.token({ sub: "ann" })).split(".");
  for (const alg of ["none", "None", ""]) {
    expect(await refusal(verifier()(`${base64url({ alg, typ: "JWT" })}.${payload}.`))).toMatch(/algorithm|malformed/);
  }
});

test("the public key is not a secret to sign with", async () => {
  const [key] = await publishedKeys();
  if (!key) throw new Error("no key is published");
  const [, payload] = (await identity.token({ sub: "ann" })).split(".");
  const input = `${base64url({ alg: "HS256", typ: "JWT", kid: key.kid })}.${payload}`;
  const pem = createPublicKey({ key, format: "jwk" }).export({ type: "spki", format: "pem" });
  const signature = createHmac("sha256", pem).update(input).digest("base64url");
  expect(await refusal(verifier()(`${input}.${signature}`))).toBe("algorithm");
});

test("a changed token is refused", async () => {
  const [header, payload, signature] = (await identity.token({ sub: "ann" })).split(".");
  const changed = [header, base64url({ ...decode(payload), sub: "eve" }), signature].join(".");
  expect(await refusal(verifier()(changed))).toBe("signature");
});

test("a text that is not a token is refused as malformed", async () => {
  for (const text of ["", "abc", "a.b.c", "..", "é.é.é"]) expect(await refusal(verifier()(text))).toBe("malformed");
});

test("an error never repeats the token", async () => {
  const token = await identity.token({ sub: "ann", expiresInSeconds: -100 });
  const error = await verifier()(token).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(TokenRefused);
  const told = [String(error), JSON.stringify(error), (error as Error).stack, String((error as Error).cause)].join();
  for (const part of token.split(".")) expect(told).not.toContain(part);
});

test("a flood of unknown key ids fetches the key set at most twice", async () => {
  const verify = verifier();
  const token = await identity.token({ sub: "ann" });
  const stranger = (n: number) => refusal(verify(withHeader(token, { kid: `unknown-${n}` })));
  const together = await Promise.all(Array.from({ length: 100 }, (_, n) => stranger(n)));
  const oneByOne: string[] = [];
  for (let n = 100; n < 200; n++) oneByOne.push(await stranger(n));
  expect(new Set([...together, ...oneByOne])).toEqual(new Set(["unknown_key"]));
  expect(identity.requests()).toBeGreaterThan(0);
  expect(identity.requests()).toBeLessThanOrEqual(2);
});

test("a new key is picked up, and tokens of the old one stay valid", async () => {
  const verify = verifier({ cooldownMs: 50 });
  const old = await identity.token({ sub: "old" });
  await verify(old);
  await identity.rotate();
  await new Promise((done) => setTimeout(done, 60));
  expect((await verify(await identity.token({ sub: "new" }))).subject).toBe("new");
  expect((await verifier()(old)).subject).toBe("old");
  expect((await publishedKeys()).length).toBe(2);
});

test("a key id is only used for the lookup", async () => {
  const asked: string[] = [];
  const jwksUri = await serve((request, response) => {
    asked.push(request.url ?? "");
    publishedKeys().then((keys) => response.end(JSON.stringify({ keys })));
  });
  const verify = verifier({ jwksUri, cooldownMs: 0 });
  const token = await identity.token({ sub: "ann" });
  for (const kid of ["../../etc/passwd", "http://evil.test/jwks.json", "' or 1=1 --", "__proto__", "constructor"]) {
    expect(await refusal(verify(withHeader(token, { kid }))), kid).toBe("unknown_key");
  }
  const elsewhere = { jku: "http://evil.test/jwks.json", x5u: "http://evil.test/cert.pem" };
  expect(await refusal(verify(withHeader(token, elsewhere)))).toBe("signature");
  expect(new Set(asked)).toEqual(new Set(["/jwks.json"]));
});

test("a key in the token itself is not trusted", async () => {
  const other = await issuer();
  const [key] = ((await (await fetch(other.jwksUri)).json()) as { keys: object[] }).keys;
  const forged = await other.token({ sub: "eve", iss: identity.issuer });
  expect(await refusal(verifier()(withHeader(forged, { jwk: key })))).toBe("unknown_key");
});

test("a cached token is refused once it has expired", async () => {
  const token = await identity.token({ sub: "ann", expiresInSeconds: 2 });
  let now = new Date((expiryOf(token) - 2) * 1000);
  const verify = verifier({ now: () => now });
  const first = await verify(token);
  expect(await verify(token)).toBe(first);
  now = new Date(now.getTime() + 11_000);
  expect(await verify(token)).toBe(first);
  now = new Date(now.getTime() + 2_000);
  expect(await refusal(verify(token))).toBe("expired");
});

test("a token is cached for five minutes and then verified again", async () => {
  let now = new Date();
  const verify = verifier({ now: () => now });
  const token = await identity.token({ sub: "ann" });
  const first = await verify(token);
  now = new Date(now.getTime() + 299_000);
  expect(await verify(token)).toBe(first);
  now = new Date(now.getTime() + 2_000);
  expect(await verify(token)).not.toBe(first);
});

test("a cached result cannot be changed by its reader", async () => {
  const token = await identity.token({ sub: "ann", clients: ["client_1"], scope: "a" });
  const verified = await verifier()(token);
  expect(() => verified.scopes?.push("admin")).toThrow(TypeError);
  expect(() => (verified.claims[claim] as string[]).push("client_2")).toThrow(TypeError);
});

test("an unavailable issuer does not invalidate tokens, is requested rarely, and is retried", async () => {
  let up = false;
  let asked = 0;
  const jwksUri = await serve((_request, response) => {
    asked++;
    if (!up) return response.writeHead(500).end();
    publishedKeys().then((keys) => response.end(JSON.stringify({ keys })));
  });
  const verify = verifier({ jwksUri });
  const token = await identity.token({ sub: "ann" });
  for (let n = 0; n < 50; n++) await expect(verify(token)).rejects.toBeInstanceOf(IdentityUnavailable);
  expect(asked).toBeLessThanOrEqual(2);
  up = true;
  await expect.poll(async () => (await verify(token)).subject, { timeout: 20_000, interval: 100 }).toBe("ann");
});

test("an issuer with an invalid response, or without one, is unavailable", async () => {
  const token = await identity.token({ sub: "ann" });
  const nonsense = ["<html>", "{}", "[]", '{"keys":7}'];
  for (const body of nonsense) {
    const jwksUri = await serve((_request, response) => response.end(body));
    await expect(verifier({ jwksUri })(token), body).rejects.toBeInstanceOf(IdentityUnavailable);
  }
  const verify = verifier();
  await identity.close();
  cleanups.pop();
  await expect(verify(token)).rejects.toBeInstanceOf(IdentityUnavailable);
});

test("an issuer that sends its keys too slowly times out after five seconds", { timeout: 60_000 }, async () => {
  const jwksUri = await serve((_request, response) => {
    response.writeHead(200, { "content-type": "application/json" });
    const drip = setInterval(() => response.write(" "), 100);
    response.on("close", () => clearInterval(drip));
  });
  const began = performance.now();
  await expect(verifier({ jwksUri })(await identity.token({ sub: "ann" }))).rejects.toBeInstanceOf(IdentityUnavailable);
  expect(performance.now() - began).toBeLessThan(20_000);
});

test("the local issuer's tokens survive its restart, and its key file is private", async () => {
  const dir = await fs.mkdtemp(join(tmpdir(), "patchbay-identity-"));
  cleanups.push(() => fs.rm(dir, { recursive: true }));
  const keyFile = join(dir, "keys", "identity.json");
  const first = await startIdentity({ audience, claim, keyFile });
  const before = await first.token({ sub: "before" });
  await first.rotate();
  const after = await first.token({ sub: "after" });
  await first.close();
  expect((await fs.stat(keyFile)).mode & 0o777).toBe(0o600);

  const again = await issuer({ keyFile, port: Number(new URL(first.issuer).port) });
  const verify = jwtVerifier({ issuer: again.issuer, audience });
  expect((await verify(before)).subject).toBe("before");
  expect((await verify(after)).subject).toBe("after");

  await fs.writeFile(keyFile, "[]");
  await expect(issuer({ keyFile })).rejects.toBeInstanceOf(SetupProblem);
});

test("the local issuer publishes its discovery document, and no private key", async () => {
  const discovery = (await (await fetch(`${identity.issuer}.well-known/openid-configuration`)).json()) as object;
  expect(discovery).toMatchObject({ issuer: identity.issuer, jwks_uri: identity.jwksUri });
  for (const key of await publishedKeys())
    expect(Object.keys(key).sort()).toEqual(["alg", "e", "kid", "kty", "n", "use"]);
});

test("the local issuer's token endpoint issues valid tokens, and reports errors of a request", async () => {
  const ask = (body: string) => fetch(`${identity.issuer}oauth/token`, { method: "POST", body });
  const answer = await ask(JSON.stringify({ sub: "ann", clients: ["client_1"], scope: "a" }));
  const body = (await answer.json()) as { access_token: string; token_type: string; expires_in: number };
  expect(body).toMatchObject({ token_type: "Bearer", expires_in: 86_400 });
  expect(await verifier()(body.access_token)).toMatchObject({ subject: "ann", scopes: ["a"] });
  const long = JSON.stringify({ sub: "a".repeat(70_000) });
  for (const bad of ["", "{", "{}", '{"sub":""}', '{"sub":"ann","clients":"x"}', '{"sub":"ann","iss":"x"}', long]) {
    expect((await ask(bad)).status, bad.slice(0, 40)).toBe(400);
  }
});

test("a port in use is reported in one sentence", async () => {
  const port = Number(new URL(identity.issuer).port);
  await expect(startIdentity({ audience, claim, port })).rejects.toThrow(new RegExp(`cannot listen on port ${port}`));
});
