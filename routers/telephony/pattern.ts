/**
 * Our pattern as the provider takes it, a regular expression over the user part of the address that was called
 * (openapi: AgentAllowance.toUserPattern). Numbers come with the plus sign or without it.
 */
export function toUserPattern(pattern: string): string {
  const { text, isNumber, isOpen } = read(pattern);
  const body = isNumber ? `\\+?${text.slice(1)}` : text.replace(/[.*+?^${}()|[\]\\-]/g, "\\$&");
  return `^${body}${isOpen ? ".*" : ""}$`;
}

/** A number is kept with its plus sign: what is answered is the same with it and without. */
export function normalised(pattern: string): string {
  const { text, isOpen } = read(pattern);
  return isOpen ? `${text}*` : text;
}

/** Could something be called that fits both? */
export function overlap(one: string, other: string): boolean {
  const [a, b] = [read(one), read(other)];
  if (a.text === b.text) return true; // `*` stands for nothing, too
  return (a.isOpen && b.text.startsWith(a.text)) || (b.isOpen && a.text.startsWith(b.text));
}

/** Does everything that fits `inner` fit `outer` too? */
export function covers(outer: string, inner: string): boolean {
  const [a, b] = [read(outer), read(inner)];
  return a.isOpen ? b.text.startsWith(a.text) : !b.isOpen && a.text === b.text;
}

/** What one call can be made to: null where the pattern leaves something open. */
export const onlyCallee = (pattern: string): string | null => (read(pattern).isOpen ? null : read(pattern).text);

const fewestDigits = 4;
const fewestCharacters = 3;

/** On an account that clients share nobody asks for a large part of all numbers. */
export function widthProblem(pattern: string): string | null {
  const { text, isNumber, isOpen } = read(pattern);
  if (!isOpen) return null;
  if (isNumber && text.length - 1 < fewestDigits) return `Write at least ${fewestDigits} digits before the \`*\`.`;
  if (!isNumber && text.length < fewestCharacters)
    return `Write at least ${fewestCharacters} characters before the \`*\`.`;
  return null;
}

/** For sorting: what says more about the number stands first. */
export function bySpecificity(one: string, other: string): number {
  const [a, b] = [read(one), read(other)];
  return b.text.length - a.text.length || Number(a.isOpen) - Number(b.isOpen);
}

function read(pattern: string) {
  const isOpen = pattern.endsWith("*");
  const written = isOpen ? pattern.slice(0, -1) : pattern;
  const isNumber = /^\+?[0-9]+$/.test(written);
  const text = isNumber && !written.startsWith("+") ? `+${written}` : written;
  return { text, isNumber, isOpen };
}
