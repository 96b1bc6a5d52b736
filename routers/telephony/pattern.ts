/**
 * Our pattern as the provider takes it, a regular expression over the user part of the address that was called
 * (openapi: AgentAllowance.toUserPattern). Numbers come with the plus sign or without it.
 */
export function toUserPattern(pattern: string): string {
  const open = pattern.endsWith("*");
  const text = open ? pattern.slice(0, -1) : pattern;
  const isNumber = /^\+?[0-9]+$/.test(text);
  const body = isNumber ? `\\+?${text.replace(/^\+/, "")}` : text.replace(/[.*+?^${}()|[\]\\-]/g, "\\$&");
  return `^${body}${open ? ".*" : ""}$`;
}
