import { createHash } from "node:crypto";
import { createRemoteJWKSet, customFetch, errors, type JWTPayload, type JWTVerifyGetKey, jwtVerify } from "jose";
import { isStorable } from "../db/text.ts";

export type JwtOptions = {
  /** Exactly as in `iss`: Auth0's ends in a slash. */
  issuer: string;
  audience: string;
  jwksUri?: string;
  /** For clocks that differ: at most 60. */
  leewaySeconds?: number;
  /** How long an unknown key id cannot make us fetch the key set again. */
  cooldownMs?: number;
  now?: () => Date;
};

export type VerifiedToken = {
  subject: string;
  /** What the claims `scope` and `permissions` both grant. null when neither says anything about this API. */
  scopes: string[] | null;
  claims: Record<string, unknown>;
};

export type Refusal =
  | "malformed"
  | "algorithm"
  | "unknown_key"
  | "signature"
  | "issuer"
  | "audience"
  | "expired"
  | "not_yet_valid"
  | "subject"
  | "scope"
  | "claims";

/** Carries neither the token nor the error that quotes its claims, so it may be logged. */
export class TokenRefused extends Error {
  override name = "TokenRefused";
  readonly reason: Refusal;

  constructor(reason: Refusal) {
    super(`token refused: ${reason}`);
    this.reason = reason;
  }
}

/** We cannot tell whether the token is good, since its issuer's keys cannot be had. */
export class IdentityUnavailable extends Error {
  override name = "IdentityUnavailable";
}

const longestSubject = 255;
const fetchDeadlineMs = 5_000;
const pauseAfterFailureMs = 1_000;
const rememberedTokens = 10_000;
const rememberedMs = 5 * 60_000;

/** Verifies access tokens of one issuer. A token verified once is believed for up to five minutes, never past `exp`. */
export function jwtVerifier(options: JwtOptions): (token: string) => Promise<VerifiedToken> {
  const { issuer, audience, leewaySeconds = 30, now = () => new Date() } = options;
  if (!(leewaySeconds >= 0 && leewaySeconds <= 60)) throw new RangeError("leewaySeconds must be between 0 and 60");
  const keys = keysOf(options);
  const remembered = new Map<string, { verified: VerifiedToken; fromMs: number; untilMs: number }>();

  return async (token) => {
    const at = now();
    const fingerprint = createHash("sha256").update(token).digest("base64");
    const known = remembered.get(fingerprint);
    // Not before it was verified either: then the clock was set back, and the five minutes would last for longer.
    if (known && at.getTime() >= known.fromMs && at.getTime() < known.untilMs) return known.verified;
    remembered.delete(fingerprint);

    const rules = { algorithms: ["RS256"], issuer, audience, clockTolerance: leewaySeconds, currentDate: at };
    const { payload } = await jwtVerify(token, keys, { ...rules, requiredClaims: ["exp", "sub"] }).catch(refuse);
    const verified = deepFreeze({ subject: subjectOf(payload), scopes: scopesOf(payload), claims: { ...payload } });

    const expiresMs = ((payload.exp ?? 0) + leewaySeconds) * 1000;
    // A signature costs a tenth of a millisecond, and the same token comes with every request of a session.
    const untilMs = Math.min(expiresMs, at.getTime() + rememberedMs);
    remembered.set(fingerprint, { verified, fromMs: at.getTime(), untilMs });
    const [oldest] = remembered.keys();
    if (remembered.size > rememberedTokens && oldest) remembered.delete(oldest);
    return verified;
  };
}

/** The issuer's keys. Neither unknown key ids nor an issuer that is down make us fetch without end. */
function keysOf({ issuer, jwksUri, cooldownMs = 30_000 }: JwtOptions): JWTVerifyGetKey {
  let failedAt = Number.NEGATIVE_INFINITY;
  const remote = createRemoteJWKSet(new URL(jwksUri ?? new URL(".well-known/jwks.json", issuer)), {
    cooldownDuration: cooldownMs,
    cacheMaxAge: 10 * 60_000,
    timeoutDuration: fetchDeadlineMs,
    [customFetch]: async (url, init) => {
      if (performance.now() - failedAt < pauseAfterFailureMs) throw new Error("the last fetch failed a moment ago");
      try {
        const response = await fetch(url, init);
        if (!response.ok) throw new Error(`the key set answered ${response.status}`);
        // Read here, so that a body that breaks off, never ends or is no JSON counts as a failure too.
        return Response.json(await response.json());
      } catch (error) {
        failedAt = performance.now();
        throw error;
      }
    },
  });
  return async (header, token) => {
    try {
      return await remote(header, token);
    } catch (error) {
      const tokensFault = error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JWKSMultipleMatchingKeys;
      if (tokensFault) throw error;
      throw new IdentityUnavailable("the issuer's keys cannot be fetched", { cause: error });
    }
  };
}

function refuse(error: unknown): never {
  if (error instanceof errors.JWTExpired) throw new TokenRefused("expired");
  if (error instanceof errors.JWTClaimValidationFailed) throw new TokenRefused(refusedClaim(error.claim));
  if (error instanceof errors.JOSEAlgNotAllowed) throw new TokenRefused("algorithm");
  if (error instanceof errors.JWSSignatureVerificationFailed) throw new TokenRefused("signature");
  if (error instanceof errors.JWKSNoMatchingKey) throw new TokenRefused("unknown_key");
  if (error instanceof errors.JWKSMultipleMatchingKeys) throw new TokenRefused("unknown_key");
  if (error instanceof errors.JOSEError) throw new TokenRefused("malformed");
  throw error;
}

function refusedClaim(claim: string): Refusal {
  const refusals: Record<string, Refusal> = {
    iss: "issuer",
    aud: "audience",
    sub: "subject",
    nbf: "not_yet_valid",
  };
  return refusals[claim] ?? "claims";
}

function subjectOf({ sub }: JWTPayload): string {
  // As long as OpenID Connect allows, and a text that the database can keep: two that differ must not become one there.
  if (typeof sub !== "string" || sub === "" || sub.length > longestSubject || !isStorable(sub)) {
    throw new TokenRefused("subject");
  }
  return sub;
}

/** Words of OpenID Connect. They ask for claims about the person, and say nothing about this API. */
const identityScopes = ["openid", "profile", "email", "address", "phone", "offline_access"];

/**
 * What the token limits its bearer to. Each claim that is present limits, also an empty one: of two that disagree, what
 * both grant is left. A claim of the wrong shape is refused: read as "says nothing", it could mean more rights than were given.
 */
function scopesOf({ scope, permissions }: JWTPayload): string[] | null {
  if (scope !== undefined && typeof scope !== "string") throw new TokenRefused("scope");
  if (permissions !== undefined && !isListOfText(permissions)) throw new TokenRefused("scope");
  const words = scope?.split(" ").filter((word) => word !== "") ?? null;
  const isOfIdentity = words !== null && words.length > 0 && words.every((word) => identityScopes.includes(word));
  const spoken = isOfIdentity ? null : words;
  if (permissions === undefined) return spoken && [...new Set(spoken)];
  return [...new Set(permissions)].filter((word) => word !== "" && (spoken === null || spoken.includes(word)));
}

const isListOfText = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((item) => typeof item === "string");

/** What is remembered is shared by all requests with that token. */
function deepFreeze<T>(value: T): T {
  if (typeof value !== "object" || value === null) return value;
  for (const inner of Object.values(value)) deepFreeze(inner);
  return Object.freeze(value);
}
