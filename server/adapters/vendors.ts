import { type Deadline, ProviderError } from "../../routers/ports/provider-error.ts";
import type { CredentialProvider, Vendors } from "../../routers/ports/vendors.ts";
import { type Breaker, openBreaker } from "./http/breaker.ts";
import { type Attempt, send } from "./http/client.ts";

type Secret = Record<string, string>;
type Check = { path: string; headers: Record<string, string> };
type Vendor = {
  name: string;
  baseUrl: string;
  /** A harmless read that needs a valid credential. */
  account(secret: Secret): Check;
  voice?(secret: Secret, id: string): Check;
};

const enc = encodeURIComponent;
const basic = (user = "", password = "") => `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;

const elevenlabs = ({ apiKey = "" }: Secret) => ({ "xi-api-key": apiKey });
const cartesia = ({ apiKey = "" }: Secret) => ({ "x-api-key": apiKey, "cartesia-version": "2025-04-16" });
const lmnt = ({ apiKey = "" }: Secret) => ({ "x-api-key": apiKey, "lmnt-version": "1.1" });

/** Vendors with an API to check a credential. A credential of any other vendor shows its validity only in use. */
const checkable: Partial<Record<CredentialProvider, Vendor>> = {
  // elevenlabs.io/docs/api-reference/user/get, .../voices/get
  elevenlabs: {
    name: "ElevenLabs",
    baseUrl: "https://api.elevenlabs.io",
    account: (secret) => ({ path: "/v1/user", headers: elevenlabs(secret) }),
    voice: (secret, id) => ({ path: `/v1/voices/${enc(id)}`, headers: elevenlabs(secret) }),
  },
  // docs.cartesia.ai/api-reference/voices/list, .../get
  cartesia: {
    name: "Cartesia",
    baseUrl: "https://api.cartesia.ai",
    account: (secret) => ({ path: "/voices?limit=1", headers: cartesia(secret) }),
    voice: (secret, id) => ({ path: `/voices/${enc(id)}`, headers: cartesia(secret) }),
  },
  // docs.lmnt.com/api/accounts/retrieve, .../voices/retrieve
  lmnt: {
    name: "LMNT",
    baseUrl: "https://api.lmnt.com",
    account: (secret) => ({ path: "/v1/account", headers: lmnt(secret) }),
    voice: (secret, id) => ({ path: `/v1/ai/voice/${enc(id)}`, headers: lmnt(secret) }),
  },
  // developers.telnyx.com/api/billing/get-user-balance
  telnyx: {
    name: "Telnyx",
    baseUrl: "https://api.telnyx.com",
    account: ({ apiKey }) => ({ path: "/v2/balance", headers: { authorization: `Bearer ${apiKey}` } }),
  },
  // twilio.com/docs/iam/api/account
  twilio: {
    name: "Twilio",
    baseUrl: "https://api.twilio.com",
    account: ({ accountSid = "", authToken }) => ({
      path: `/2010-04-01/Accounts/${enc(accountSid)}.json`,
      headers: { authorization: basic(accountSid, authToken) },
    }),
  },
  // plivo.com/docs/account/api/account
  plivo: {
    name: "Plivo",
    baseUrl: "https://api.plivo.com",
    account: ({ authId = "", authToken }) => ({
      path: `/v1/Account/${enc(authId)}/`,
      headers: { authorization: basic(authId, authToken) },
    }),
  },
};

type Options = {
  baseUrls?: Partial<Record<CredentialProvider, string>>;
  log?: (attempt: Attempt) => void;
};

/** Verifies credentials at their vendors, by reads that cost nothing. Ultravox's own key is verified by its adapter. */
export function vendors({ baseUrls = {}, log }: Options = {}): Vendors {
  const breakers = new Map<CredentialProvider, Breaker>();

  function breakerOf(provider: CredentialProvider): Breaker {
    const breaker = breakers.get(provider) ?? openBreaker();
    breakers.set(provider, breaker);
    return breaker;
  }

  function check(provider: CredentialProvider, vendor: Vendor, read: Check, secret: Secret, { signal }: Deadline) {
    const baseUrl = (baseUrls[provider] ?? vendor.baseUrl).replace(/\/+$/, "");
    const sent = Object.values(read.headers).flatMap((value) => [value, value.replace(/^\w+ /, "")]);
    return send({
      provider: vendor.name,
      method: "GET",
      url: `${baseUrl}${read.path}`,
      headers: { accept: "application/json", ...read.headers },
      deadline: signal,
      repeat: "safe",
      breaker: breakerOf(provider),
      read: () => undefined,
      secrets: [...Object.values(secret), ...sent],
      log: log && ((attempt) => log({ ...attempt, path: "(an account)" })), // the path may hold an account's id
    });
  }

  return {
    async verify(provider, secret, deadline) {
      const vendor = checkable[provider];
      if (!vendor) return { verdict: "unverifiable" };
      try {
        await check(provider, vendor, vendor.account(secret), secret, deadline);
        return { verdict: "accepted" };
      } catch (error) {
        return verdictOf(error);
      }
    },

    async findVoice(provider, secret, vendorVoiceId, deadline) {
      const vendor = checkable[provider];
      if (!vendor?.voice) return "unverifiable";
      try {
        await check(provider, vendor, vendor.voice(secret, vendorVoiceId), secret, deadline);
        return "found";
      } catch (error) {
        const { status } = refusal(error);
        if (status === 404 || status === 400 || status === 422) return "not_found"; // a malformed id does not exist either
        return "unverifiable";
      }
    },
  };
}

/** Returns the vendor's refusal, and throws any other error. */
function refusal(error: unknown): ProviderError {
  if (error instanceof ProviderError && error.kind === "refused") return error;
  throw error;
}

/**
 * A key with few permissions is valid: ElevenLabs returns 401 `missing_permissions` for a key that may synthesise but not
 * read its user. Other refusals of the caller mean an invalid key. Any other error proves nothing about the key.
 */
function verdictOf(error: unknown): Awaited<ReturnType<Vendors["verify"]>> {
  const { status, message } = refusal(error);
  if (/missing[_ ](the )?permission/i.test(message)) return { verdict: "unverifiable" };
  if (status === 401 || status === 403 || status === 404) return { verdict: "refused", reason: message };
  return { verdict: "unverifiable" };
}
