import { maskSecrets, secretForms, withoutPartialSecret } from "../../core/mask-secrets.ts";
import { objectionsToHeaders as checkHeaders } from "../../ports/addresses.ts";
import type { Cipher } from "../../ports/vault.ts";
import { openText } from "./opened.ts";

/** Headers that we set on every request. */
const ours = new Set(["content-type", "user-agent"]);

/** Problems with the client's own headers. `name` null: the problem concerns all of them together. */
export const objectionsToHeaders = (headers: Record<string, string>) => checkHeaders(headers, setByUs);

const setByUs = (lower: string, name: string) =>
  ours.has(lower) || lower.startsWith("webhook-") ? `The header ${name} is set by Patchbay.` : null;

const rowOf = (endpointId: string) => `${endpointId}:headers`;

/** The columns that store an endpoint's own headers. */
export function sealHeaders(headers: Record<string, string>, endpointId: string, cipher: Cipher) {
  const headerNames = Object.keys(headers);
  const sealed = headerNames.length === 0 ? null : cipher.seal(JSON.stringify(headers), rowOf(endpointId));
  return { headers: sealed, headerNames };
}

export function openHeaders(sealed: Buffer | null, endpointId: string, cipher: Cipher): Record<string, string> {
  return sealed === null ? {} : JSON.parse(openText(cipher, sealed, rowOf(endpointId)));
}

/** A shorter value is not treated as a secret: it would match ordinary text. */
const shortestHidden = 8;
/** A longer response may have been truncated. */
const wholeBytes = 1_000;

/** Masks the client's own header values in a response: a receiver may echo them, and readers of responses must not see them. */
export function hideHeaders(response: string, headers: Record<string, string>): string {
  const values = Object.values(headers).flatMap((value) => [value, ...value.split(/\s+/)]);
  const forms = values.filter((value) => value.length >= shortestHidden).flatMap(secretForms);
  if (forms.length === 0) return response;
  const longestFirst = [...new Set(forms)].toSorted((a, b) => b.length - a.length);
  const text = maskSecrets(response, longestFirst);
  return Buffer.byteLength(response) > wholeBytes ? withoutPartialSecret(text, longestFirst) : text;
}
