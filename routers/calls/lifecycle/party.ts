import { parsePhoneNumberFromString } from "libphonenumber-js";
import { isSipUri } from "../../core/sip-address.ts";

/**
 * One party of an inbound call, parsed from the carrier's text. `withheld`: the caller hides the number. `unreadable`: the
 * text has no valid number. null: there was no text. The raw text is stored beside it.
 */
export type Party = { number: string | null; status: "known" | "withheld" | "unreadable" | null };

const hidden =
  /^(anonymous|anonymus|restricted|private|withheld|blocked|hidden|suppressed|no ?caller ?id|private number)$/i;
/** Letters on a keypad, as carriers write RESTRICTED, BLOCKED and ANONYMOUS where only digits are allowed. */
const hiddenDigits = new Set(["7378742833", "2562533", "266696687"]);

/** `called` is the called number: a national number is read as one of its country. */
export function readParty(raw: string | null, called: string | null = null): Party {
  if (raw === null) return { number: null, status: null };
  const text = userOf(raw);
  if (hidden.test(text) || hiddenDigits.has(text.replace(/^\+/, ""))) return { number: null, status: "withheld" };
  const number = numberIn(text, called) ?? (isSipUri(raw.trim()) && !/^\+?[0-9]+$/.test(text) ? bareUri(raw) : null);
  return number === null ? { number: null, status: "unreadable" } : { number, status: "known" };
}

/** The user part of an address, or the text itself, without quotes and parameters. */
function userOf(raw: string): string {
  const inside = /<([^>]*)>/.exec(raw)?.[1] ?? raw;
  const [user = ""] = inside
    .trim()
    .replace(/^"(.*)"$/, "$1")
    .replace(/^(sips?|tel):/i, "")
    .split(/[@;?]/);
  return decoded(user).trim();
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

const bareUri = (raw: string) => raw.trim().split(/[;?]/)[0]!;

function numberIn(text: string, called: string | null): string | null {
  const digits = text.replace(/[\s().\u2010-\u2015-]/g, "");
  if (/^\+[1-9][0-9]{6,14}$/.test(digits)) return digits;
  if (/^00[1-9][0-9]{6,14}$/.test(digits)) return valid(`+${digits.slice(2)}`);
  if (!/^[0-9]{7,15}$/.test(digits)) return null;
  const national = called === null ? undefined : parsePhoneNumberFromString(called)?.country;
  const asNational = national === undefined ? undefined : parsePhoneNumberFromString(digits, national);
  const international = digits.startsWith("0") ? null : valid(`+${digits}`);
  return international ?? (asNational?.isValid() ? asNational.number : null);
}

const valid = (number: string) => (parsePhoneNumberFromString(number)?.isValid() ? number : null);
