import { execFile } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import type { Child } from "../child.ts";
import type { Ground } from "../ground.ts";

const folder = dirname(import.meta.dirname);
const installMs = 300_000;
const run = promisify(execFile);

/** The peers' files, with their names in the table. */
export const peerFiles = {
  express: ["Express + postgres.js", "./peers/express-postgres.ts"],
  fastify: ["Fastify + postgres.js", "./peers/fastify-postgres.ts"],
  trpc: ["trpc-to-openapi + drizzle", "./peers/trpc-openapi-drizzle.ts"],
  nest: ["NestJS + drizzle", "./peers/nest-drizzle.ts"],
} as const;
export type PeerName = keyof typeof peerFiles;
export type Peer = { peer: PeerName; name: string; server: Child };

/** Starts the peers in this order, each in a separate process, all for one client. */
export async function openPeers(ground: Ground, clientId: string, names: readonly PeerName[]): Promise<Peer[]> {
  await installPeers();
  const environment = { CLIENT_ID: clientId, TENANT_URL: ground.roles.tenantUrl };
  const peers: Peer[] = [];
  for (const peer of names) {
    const [name, file] = peerFiles[peer];
    peers.push({ peer, name, server: await ground.child(file, environment) });
  }
  return peers;
}

/** The peers' packages belong to this folder only. They are installed at first use and after a change. */
async function installPeers() {
  const installed = join(folder, "node_modules", ".package-lock.json");
  const lock = join(folder, "package-lock.json");
  if (existsSync(installed) && statSync(installed).mtimeMs >= statSync(lock).mtimeMs) return;
  console.error("  installing the peers");
  await run("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund"], { cwd: folder, timeout: installMs });
}
