import { z } from "zod";

/** All scopes of clients. An API key has a list of them; a role is a list in the database, where `*` means all. */
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

/** The scopes of operators and of the installation's own services. No role or API key of a client has one, not even with `*`. */
export const systemScopes = ["platform:read", "platform:write", "internal:read", "internal:write"] as const;
export type SystemScope = (typeof systemScopes)[number];

export const Scope = z.enum(scopes);
export type Scope = z.output<typeof Scope>;

/** Whether a list such as `["*:read", "calls:write"]` grants this scope. `*` never includes system scopes. */
export function grants(held: readonly string[], wanted: Scope | SystemScope): boolean {
  if (held.includes(wanted)) return true;
  if ((systemScopes as readonly string[]).includes(wanted)) return false;
  return held.includes("*") || held.includes(`*:${wanted.split(":")[1]}`);
}
