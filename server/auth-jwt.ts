import { createHash } from "node:crypto";
import { createRemoteJWKSet, customFetch, errors, type JWTPayload, type JWTVerifyGetKey, jwtVerify } from "jose";
import { isStorable } from "../db/text.ts";

export type JwtOptions = {
  /** Exactly as in `iss`: Auth0's ends with a slash. */
  issuer: string;
  audience: string;
  jwksUri?: string | undefined;
  /** Tolerated clock difference: at most 60. */
  leewaySeconds?: number;
  /** After an unknown key id, the key set is not fetched again for this time. */
  cooldownMs?: number;
  now?: () => Date;
};

export type VerifiedToken = {
  subject: string;
  /** The scopes that the claims `scope` and `permissions` both grant. null if neither has a scope of this API. */
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

/** Contains neither the token nor the error that quotes its claims, so it may be logged. */
export class TokenRefused extends Error {
  override name = "TokenRefused";
  readonly reason: Refusal;

  constructor(reason: Refusal) {
    super(`token refused: ${reason}`);
    this.reason = reason;
  }
}

/** The token cannot be verified, because the issuer's keys are unavailable. */
export class IdentityUnavailable extends Error {
  override name = "IdentityUnavailable";
}

const maxSubjectLength = 255;
const fetchDeadlineMs = 5_000;
const pauseAfterFailureMs = 1_000;
const maxCachedTokens = 10_000;
const cacheMs = 5 * 60_000;

export type JwtVerifier = ((token: string) => Promise<VerifiedToken>) & {
  /** Whether the token was verified before, so that it probably needs no signature now. */
  isKnown(token: string): boolean;
};

/** Verifies access tokens of one issuer. A verified token is cached for up to five minutes, never past its `exp`. */
export function jwtVerifier(options: JwtOptions): JwtVerifier {
  const { issuer, audience, leewaySeconds = 30, now = () => new Date() } = options;
  if (!(leewaySeconds >= 0 && leewaySeconds <= 60)) throw new RangeError("leewaySeconds must be between 0 and 60");
  const keys = keysOf(options);
  const cache = new Map<string, { verified: VerifiedToken; fromMs: number; untilMs: number }>();

  const verify = async (token: string) => {
    const at = now();
    const fingerprint = fingerprintOf(token);
    const cached = cache.get(fingerprint);
    // Also not before it was verified: if the clock is set back, the five minutes would last longer.
    if (cached && at.getTime() >= cached.fromMs && at.getTime() < cached.untilMs) return cached.verified;
    cache.delete(fingerprint);

    const rules = { algorithms: ["RS256"], issuer, audience, clockTolerance: leewaySeconds, currentDate: at };
    const { payload } = await jwtVerify(token, keys, { ...rules, requiredClaims: ["exp", "sub"] }).catch(refuse);
    const verified = deepFreeze({ subject: subjectOf(payload), scopes: scopesOf(payload), claims: { ...payload } });

    const expiresMs = ((payload.exp ?? 0) + leewaySeconds) * 1000;
    // A signature costs a tenth of a millisecond, and the same token comes with every request of a session.
    const untilMs = Math.min(expiresMs, at.getTime() + cacheMs);
    cache.set(fingerprint, { verified, fromMs: at.getTime(), untilMs });
    const [oldest] = cache.keys();
    if (cache.size > maxCachedTokens && oldest) cache.delete(oldest);
    return verified;
  };
  return Object.assign(verify, { isKnown: (token: string) => cache.has(fingerprintOf(token)) });
}

const fingerprintOf = (token: string) => createHash("sha256").update(token).digest("base64");

/** The issuer's keys. Neither unknown key ids nor an unavailable issuer cause endless fetches. */
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
        // Parsed here, so that an incomplete or invalid body counts as a failure too.
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
      const isTokenError =
        error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JWKSMultipleMatchingKeys;
      if (isTokenError) throw error;
      throw new IdentityUnavailable("The issuer's keys cannot be fetched.", { cause: error });
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
  // Within the limit of OpenID Connect, and storable: two different subjects must not become one in the database.
  if (typeof sub !== "string" || sub === "" || sub.length > maxSubjectLength || !isStorable(sub)) {
    throw new TokenRefused("subject");
  }
  return sub;
}

/** Scopes of OpenID Connect. They request claims about the person, and grant nothing in this API. */
const identityScopes = ["openid", "profile", "email", "address", "phone", "offline_access"];

/**
 * The scopes to which a token limits its bearer. Each claim that is present limits, even an empty one. If both are present,
 * the result is what both grant. A claim of the wrong type is refused: treated as missing, it could mean more rights.
 */
function scopesOf({ scope, permissions }: JWTPayload): string[] | null {
  if (scope !== undefined && typeof scope !== "string") throw new TokenRefused("scope");
  if (permissions !== undefined && !isListOfText(permissions)) throw new TokenRefused("scope");
  const words = scope?.split(" ").filter((word) => word !== "") ?? null;
  const isOfIdentity = words !== null && words.length > 0 && words.every((word) => identityScopes.includes(word));
  const granted = isOfIdentity ? null : words;
  if (permissions === undefined) return granted && [...new Set(granted)];
  return [...new Set(permissions)].filter((word) => word !== "" && (granted === null || granted.includes(word)));
}

const isListOfText = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((item) => typeof item === "string");

/** A cached token is shared by all its requests. */
function deepFreeze<T>(value: T): T {
  if (typeof value !== "object" || value === null) return value;
  for (const inner of Object.values(value)) deepFreeze(inner);
  return Object.freeze(value);
}
