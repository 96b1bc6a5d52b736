import { Agent } from "undici";

let agent: Agent | undefined;

/**
 * The agent of all provider requests. It uses no proxy from the environment and follows no redirect, so a key is sent only
 * to the given host. HTTP/1.1: one broken HTTP/2 connection would make the outcome of every request on it unknown. It has
 * no timeout except for connecting: undici's other timeouts restart with each byte, and a slow drip outlives them.
 */
export function connections(): Agent {
  agent ??= new Agent({ allowH2: false, connect: { timeout: 5_000 }, headersTimeout: 0, bodyTimeout: 0 });
  return agent;
}

export async function closeConnections(): Promise<void> {
  const open = agent;
  agent = undefined;
  await open?.close();
}
