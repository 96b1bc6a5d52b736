import { type Deadline, ProviderError } from "../../routers/ports/provider-error.ts";
import type { CredentialProvider, Vendors } from "../../routers/ports/vendors.ts";
import { type Attempt, type Breaker, openBreaker, send } from "./http.ts";

type Secret = Record<string, string>;
type Look = { path: string; headers: Record<string, string> };
type Vendor = {
  name: string;
  baseUrl: string;
  /** Something harmless that only opens with a good credential. */
  account(secret: Secret): Look;
  voice?(secret: Secret, id: string): Look;
};

const enc = encodeURIComponent;
const basic = (user = "", password = "") => `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;

const elevenlabs = ({ apiKey = "" }: Secret) => ({ "xi-api-key": apiKey });
const cartesia = ({ apiKey = "" }: Secret) => ({ "x-api-key": apiKey, "cartesia-version": "2025-04-16" });
const lmnt = ({ apiKey = "" }: Secret) => ({ "x-api-key": apiKey, "lmnt-version": "1.1" });

/** Companies that offer a way to ask. Of the others it cannot be told before they are used. */
const vendorsAsked: Partial<Record<CredentialProvider, Vendor>> = {
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

/** Tries credentials where they come from, by reads that cost nothing. Ultravox's own key is asked of its adapter. */
export function vendors({ baseUrls = {}, log }: Options = {}): Vendors {
  const breakers = new Map<CredentialProvider, Breaker>();

  function breakerOf(provider: CredentialProvider): Breaker {
    const breaker = breakers.get(provider) ?? openBreaker();
    breakers.set(provider, breaker);
    return breaker;
  }

  function look(provider: CredentialProvider, vendor: Vendor, what: Look, secret: Secret, { signal }: Deadline) {
    const baseUrl = (baseUrls[provider] ?? vendor.baseUrl).replace(/\/+$/, "");
    const sent = Object.values(what.headers).flatMap((value) => [value, value.replace(/^\w+ /, "")]);
    return send({
      provider: vendor.name,
      method: "GET",
      url: `${baseUrl}${what.path}`,
      headers: { accept: "application/json", ...what.headers },
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
      const vendor = vendorsAsked[provider];
      if (!vendor) return { verdict: "unverifiable" };
      try {
        await look(provider, vendor, vendor.account(secret), secret, deadline);
        return { verdict: "accepted" };
      } catch (error) {
        return verdictOf(error);
      }
    },

    async findVoice(provider, secret, vendorVoiceId, deadline) {
      const vendor = vendorsAsked[provider];
      if (!vendor?.voice) return "unverifiable";
      try {
        await look(provider, vendor, vendor.voice(secret, vendorVoiceId), secret, deadline);
        return "found";
      } catch (error) {
        const { status } = refusal(error);
        if (status === 404 || status === 400 || status === 422) return "not_found"; // a malformed id is nobody's
        return "unverifiable";
      }
    },
  };
}

/** Throws on whatever is not the company's own no. */
function refusal(error: unknown): ProviderError {
  if (error instanceof ProviderError && error.kind === "refused") return error;
  throw error;
}

/**
 * A key with few permissions is a good key: ElevenLabs answers 401 `missing_permissions` to one that may speak but not
 * read its user. Any other no to who is asking is a no; what is none of that says nothing about the key.
 */
function verdictOf(error: unknown): Awaited<ReturnType<Vendors["verify"]>> {
  const { status, message } = refusal(error);
  if (/missing[_ ](the )?permission/i.test(message)) return { verdict: "unverifiable" };
  if (status === 401 || status === 403 || status === 404) return { verdict: "refused", reason: message };
  return { verdict: "unverifiable" };
}
