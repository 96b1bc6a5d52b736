import {
  createHmac,
  createPrivateKey,
  createPublicKey,
  createSecretKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign as signWith,
} from "node:crypto";

export type Signing = "v1" | "v1a";

type Message = {
  id: string;
  timestampSeconds: number;
  body: string;
  /** All secrets that sign, newest first. */
  secrets: readonly string[];
};

const symmetric = "whsec_";
const privateKey = "whsk_";
const publicKey = "whpk_";

/** The prefixes of a 32-byte Ed25519 key in PKCS #8 and in SPKI (RFC 8410). */
const pkcs8 = Buffer.from("302e020100300506032b657004220420", "hex");
const spki = Buffer.from("302a300506032b6570032100", "hex");

/**
 * A signing secret in the format of Standard Webhooks. `v1`: `whsec_` and 32 random bytes, shared with the receiver. `v1a`:
 * `whsk_` with the Ed25519 seed and public key; the receiver gets only the `whpk_` public key. All in base64.
 */
export function newSecret(signing: Signing = "v1"): { secret: string; publicKey: string | null } {
  if (signing === "v1") return { secret: `${symmetric}${randomBytes(32).toString("base64")}`, publicKey: null };
  const pair = generateKeyPairSync("ed25519");
  const seed = pair.privateKey.export({ format: "der", type: "pkcs8" }).subarray(pkcs8.length);
  const publicBytes = pair.publicKey.export({ format: "der", type: "spki" }).subarray(spki.length);
  return {
    secret: `${privateKey}${Buffer.concat([seed, publicBytes]).toString("base64")}`,
    publicKey: `${publicKey}${publicBytes.toString("base64")}`,
  };
}

/** The `webhook-signature` of Standard Webhooks 1.0 over `id.timestamp.body`: one signature per secret, separated by spaces. */
export function sign({ id, timestampSeconds, body, secrets }: Message): string {
  if (id.includes(".") || secrets.length === 0)
    throw new Error("Cannot sign: the id contains a dot, or there is no secret.");
  const signed = `${id}.${timestampSeconds}.${body}`;
  return secrets.map((secret) => signOne(secret, signed)).join(" ");
}

function signOne(secret: string, signed: string): string {
  const key = parsedKey(secret);
  if (key.type === "secret") return `v1,${createHmac("sha256", key).update(signed).digest("base64")}`;
  return `v1a,${signWith(null, Buffer.from(signed), key).toString("base64")}`;
}

/** A bounded cache of parsed keys, because parsing one is expensive. */
const keys = new Map<string, KeyObject>();
const maxCachedKeys = 1_000;

function parsedKey(secret: string): KeyObject {
  const known = keys.get(secret);
  if (known) return known;
  const key = readSecret(secret);
  if (keys.size >= maxCachedKeys) keys.delete(keys.keys().next().value!);
  keys.set(secret, key);
  return key;
}

function readSecret(secret: string): KeyObject {
  if (secret.startsWith(symmetric)) {
    const key = Buffer.from(secret.slice(symmetric.length), "base64");
    if (key.length < 24) throw new Error("The secret is too short.");
    return createSecretKey(key);
  }
  const key = secret.startsWith(privateKey) ? Buffer.from(secret.slice(privateKey.length), "base64") : null;
  if (key?.length !== 64) throw new Error("The secret is not a signing secret.");
  return ed25519(key.subarray(0, 32));
}

const ed25519 = (seed: Buffer) => createPrivateKey({ key: Buffer.concat([pkcs8, seed]), format: "der", type: "pkcs8" });

/** The `whpk_…` public key of a `whsk_…` secret. */
export function publicKeyOf(secret: string): string {
  const seed = Buffer.from(secret.slice(privateKey.length), "base64").subarray(0, 32);
  const der = createPublicKey(ed25519(seed)).export({ format: "der", type: "spki" });
  return `${publicKey}${der.subarray(spki.length).toString("base64")}`;
}
