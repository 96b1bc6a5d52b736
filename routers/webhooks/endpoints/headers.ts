import { maskSecrets, secretForms, withoutPartialSecret } from "../../core/mask-secrets.ts";
import { objectionsToHeaders as judge } from "../../ports/addresses.ts";
import type { Cipher } from "../../ports/vault.ts";

/** What every request says of itself. */
const ours = new Set(["content-type", "user-agent"]);

/** What speaks against the headers that a client wants on its requests; `name` null: against all of them together. */
export const objectionsToHeaders = (headers: Record<string, string>) => judge(headers, setByUs);

const setByUs = (lower: string, name: string) =>
  ours.has(lower) || lower.startsWith("webhook-") ? `The header ${name} is set by Patchbay.` : null;

const rowOf = (endpointId: string) => `${endpointId}:headers`;

/** The columns of an endpoint's headers. */
export function sealHeaders(headers: Record<string, string>, endpointId: string, ring: Cipher) {
  const headerNames = Object.keys(headers);
  const sealed = headerNames.length === 0 ? null : ring.seal(JSON.stringify(headers), rowOf(endpointId));
  return { headers: sealed, headerNames };
}

export function openHeaders(sealed: Buffer | null, endpointId: string, ring: Cipher): Record<string, string> {
  return sealed === null ? {} : JSON.parse(ring.open(sealed, rowOf(endpointId)).toString());
}

/** What is shorter is no secret, and would be found anywhere. */
const shortestHidden = 8;
/** A longer answer may have been cut. */
const wholeBytes = 1_000;

/** A receiver may answer with what it was sent: whoever reads its answers need not know the headers that open its door. */
export function hideHeaders(answer: string, headers: Record<string, string>): string {
  const values = Object.values(headers).flatMap((value) => [value, ...value.split(/\s+/)]);
  const forms = values.filter((value) => value.length >= shortestHidden).flatMap(secretForms);
  if (forms.length === 0) return answer;
  const longestFirst = [...new Set(forms)].toSorted((a, b) => b.length - a.length);
  const text = maskSecrets(answer, longestFirst);
  return Buffer.byteLength(answer) > wholeBytes ? withoutPartialSecret(text, longestFirst) : text;
}
