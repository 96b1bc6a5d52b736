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
  "events:read",
  "webhooks:read",
  "webhooks:write",
] as const;

export const Scope = z.enum(scopes);
export type Scope = z.output<typeof Scope>;

/** Does a list such as `["*:read", "calls:write"]` grant this scope? */
export function grants(held: readonly string[], wanted: Scope): boolean {
  return held.includes(wanted) || held.includes("*") || held.includes(`*:${wanted.split(":")[1]}`);
}
