import { z } from "zod";

/** Every permission there is. A key carries a list of them; a role is a list in the database, where `*` stands for all. */
export const scopes = [
  "agents:read",
  "agents:write",
  "api_keys:read",
  "api_keys:write",
  "billing:read",
  "calls:read",
  "calls:write",
  "clients:read",
  "clients:write",
  "credentials:read",
  "credentials:write",
  "events:read",
  "knowledge:read",
  "knowledge:write",
  "members:read",
  "members:write",
  "telephony:read",
  "telephony:write",
  "tools:read",
  "tools:write",
  "voices:read",
  "voices:write",
  "webhooks:read",
  "webhooks:write",
] as const;

/** Of the operator and of the installation's own services. No client's role or key can hold one, `*` included. */
export const systemScopes = ["platform:read", "platform:write", "internal:read", "internal:write"] as const;
export type SystemScope = (typeof systemScopes)[number];

export const Scope = z.enum(scopes);
export type Scope = z.output<typeof Scope>;

/** Does a list such as `["*:read", "calls:write"]` grant this scope? A scope of the house is never meant by a star. */
export function grants(held: readonly string[], wanted: Scope | SystemScope): boolean {
  if (held.includes(wanted)) return true;
  if ((systemScopes as readonly string[]).includes(wanted)) return false;
  return held.includes("*") || held.includes(`*:${wanted.split(":")[1]}`);
}
