import { newId } from "../../../db/ids.ts";
import { seedClient } from "../../../dev/seed.ts";
import { CreateAgent } from "../../../routers/agents/schema.ts";
import { createApiKey } from "../../../routers/api-keys/service.ts";
import { scopes } from "../../../routers/core/scopes.ts";
import type { Child } from "../child.ts";
import type { Ground } from "../ground.ts";

/** A client, its API keys that share the load, and an agent. */
export type Customer = { clientId: string; keys: string[]; agentId: string };

/** About 1.1 kB per resource: twenty make a page of 22 kB. */
export const agentBody = CreateAgent.parse({
  name: "Reception",
  systemPrompt: "You answer for a bakery. Be brief, be kind, and never promise bread that has not been baked. ".repeat(
    4,
  ),
  ...{ voice: "Mark", languageHint: "en-GB", temperature: 0.3, greeting: "Good morning!" },
});

/** A client with this number of keys and one agent. */
export async function openCustomer(ground: Ground, server: Child, name: string, keyCount: number): Promise<Customer> {
  const { deps } = ground;
  const seeded = await seedClient(deps, { name, subject: `auth0|${name}`, credits: 100_000_000 });
  const { clientId, userId, key } = seeded;
  const keys = await deps.db.asClient({ clientId }, async (tx) => {
    const made: string[] = [];
    for (let n = 0; n < keyCount; n++) {
      const wanted = { name: `Key ${n}`, scopes: [...scopes] };
      made.push((await createApiKey(tx, wanted, { id: userId, scopes: ["*"] }, deps.auth.hashKey)).key);
    }
    return made;
  });
  const [agentId] = await create(server, key, "agents", agentBody, 1);
  return { clientId, keys, agentId: agentId! };
}

/** Creates resources through the API. Returns their ids. */
export async function create(server: Child, key: string, path: string, body: unknown, count: number) {
  const url = `http://127.0.0.1:${await server.ask<number>("port")}/api/v1/${path}`;
  const ids: string[] = [];
  for (let n = 0; n < count; n++) {
    const headers = {
      authorization: `Bearer ${key}`,
      "content-type": "application/json",
      "idempotency-key": newId("request"),
    };
    const response = await fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
    const text = await response.text();
    const id = response.status === 201 ? (JSON.parse(text) as { data?: { id?: string } }).data?.id : undefined;
    if (!id) throw new Error(`POST ${path}: ${response.status} ${text.slice(0, 300)}`);
    ids.push(id);
  }
  return ids;
}

/** A complete request, ready for a socket. */
export function request(method: string, path: string, headers: Record<string, string> = {}, body?: unknown): string {
  const text = body === undefined ? "" : JSON.stringify(body);
  const ofBody = { "content-type": "application/json", "content-length": String(Buffer.byteLength(text)) };
  const all = { host: "127.0.0.1", ...headers, ...(body === undefined ? {} : ofBody) };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  return `${method} ${path} HTTP/1.1\r\n${lines.join("")}\r\n${text}`;
}

export const bearer = (key: string) => ({ authorization: `Bearer ${key}` });
