/**
 * Our pattern as the provider's regular expression over the user part of the called address
 * (openapi: AgentAllowance.toUserPattern). Numbers may arrive with or without the plus sign.
 */
export function toUserPattern(pattern: string): string {
  const { text, isNumber, isOpen } = parse(pattern);
  const body = isNumber ? `\\+?${text.slice(1)}` : text.replace(/[.*+?^${}()|[\]\\-]/g, "\\$&");
  return `^${body}${isOpen ? ".*" : ""}$`;
}

/** Adds the plus sign to a number: the pattern matches with and without it. */
export function normalizePattern(pattern: string): string {
  const { text, isOpen } = parse(pattern);
  return isOpen ? `${text}*` : text;
}

/** Whether an address can match both patterns. */
export function overlap(one: string, other: string): boolean {
  const [a, b] = [parse(one), parse(other)];
  if (a.text === b.text) return true; // `*` also matches nothing
  return (a.isOpen && b.text.startsWith(a.text)) || (b.isOpen && a.text.startsWith(b.text));
}

/** Whether every address that matches `inner` also matches `outer`. */
export function covers(outer: string, inner: string): boolean {
  const [a, b] = [parse(outer), parse(inner)];
  return a.isOpen ? b.text.startsWith(a.text) : !b.isOpen && a.text === b.text;
}

/** The only address that matches; null for a pattern with `*`. */
export const onlyCallee = (pattern: string): string | null => (parse(pattern).isOpen ? null : parse(pattern).text);

const minDigits = 4;
const minCharacters = 3;

/** On a shared account, a pattern must not match a large part of all numbers. Returns the error message, or null. */
export function widthProblem(pattern: string): string | null {
  const { text, isNumber, isOpen } = parse(pattern);
  if (!isOpen) return null;
  if (isNumber && text.length - 1 < minDigits) return `Write at least ${minDigits} digits before the \`*\`.`;
  if (!isNumber && text.length < minCharacters) return `Write at least ${minCharacters} characters before the \`*\`.`;
  return null;
}

/** Sort order: the more specific pattern first. */
export function bySpecificity(one: string, other: string): number {
  const [a, b] = [parse(one), parse(other)];
  return b.text.length - a.text.length || Number(a.isOpen) - Number(b.isOpen);
}

function parse(pattern: string) {
  const isOpen = pattern.endsWith("*");
  const written = isOpen ? pattern.slice(0, -1) : pattern;
  const isNumber = /^\+?[0-9]+$/.test(written);
  const text = isNumber && !written.startsWith("+") ? `+${written}` : written;
  return { text, isNumber, isOpen };
}
