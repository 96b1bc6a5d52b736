import { isHeaderValue, objectionToHeader } from "../addresses.ts";
import type { KeyRing } from "../providers/vault.ts";
import { formsOf, hide, withoutHalf } from "../tools/hide.ts";

const atMost = 20;
const longestValue = 2000;

/** What every request says of itself. */
const ours = new Set(["content-type", "user-agent"]);

type Objection = { name: string | null; message: string };

/** What speaks against the headers that a client wants on its requests; `name` null: against all of them together. */
export function objectionsToHeaders(headers: Record<string, string>): Objection[] {
  const names = Object.keys(headers);
  // Counted before anything is looked at: each name is compared with all before it.
  if (names.length > atMost) return [{ name: null, message: `At most ${atMost} headers.` }];
  return names.flatMap((name, index): Objection[] => {
    const twin = names.slice(0, index).find((other) => other.toLowerCase() === name.toLowerCase());
    const message =
      objectionTo(name) ?? objectionToValue(headers[name]!) ?? (twin ? `${twin} is the same header.` : null);
    return message === null ? [] : [{ name, message }];
  });
}

function objectionTo(name: string): string | null {
  const lower = name.toLowerCase();
  if (ours.has(lower) || lower.startsWith("webhook-")) return `The header ${name} is set by Patchbay.`;
  return objectionToHeader(name);
}

function objectionToValue(value: string): string | null {
  if (value.length > longestValue) return `A value has at most ${longestValue} characters.`;
  return isHeaderValue(value) ? null : "A value is one line of characters that a header can hold.";
}

const rowOf = (endpointId: string) => `${endpointId}:headers`;

/** The columns of an endpoint's headers. */
export function sealHeaders(headers: Record<string, string>, endpointId: string, ring: KeyRing) {
  const headerNames = Object.keys(headers);
  const sealed = headerNames.length === 0 ? null : ring.seal(JSON.stringify(headers), rowOf(endpointId));
  return { headers: sealed, headerNames };
}

export function openHeaders(sealed: Buffer | null, endpointId: string, ring: KeyRing): Record<string, string> {
  return sealed === null ? {} : JSON.parse(ring.open(sealed, rowOf(endpointId)).toString());
}

/** What is shorter is no secret, and would be found anywhere. */
const shortestHidden = 8;
/** A longer answer may have been cut. */
const wholeBytes = 1_000;

/** A receiver may answer with what it was sent: whoever reads its answers need not know the headers that open its door. */
export function hideHeaders(answer: string, headers: Record<string, string>): string {
  const values = Object.values(headers).flatMap((value) => [value, ...value.split(/\s+/)]);
  const forms = values.filter((value) => value.length >= shortestHidden).flatMap(formsOf);
  if (forms.length === 0) return answer;
  const longestFirst = [...new Set(forms)].toSorted((a, b) => b.length - a.length);
  const text = hide(answer, longestFirst);
  return Buffer.byteLength(answer) > wholeBytes ? withoutHalf(text, longestFirst) : text;
}
