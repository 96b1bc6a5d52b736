import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { afterEach, expect, test } from "vitest";
import { agent, startTestApp, until } from "../support/app.ts";

const h = await startTestApp();
const sockets: Socket[] = [];
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
});

/** Sends nearly a megabyte of a body and stops. The status appears once the server has answered. */
async function sendHalf(path: string, key: string): Promise<{ status: number | null }> {
  const { hostname, port } = new URL(h.url);
  const socket = connect(Number(port), hostname);
  sockets.push(socket);
  const seen: { status: number | null } = { status: null };
  socket
    .on("error", () => {})
    .once("data", (bytes) => {
      seen.status = Number(bytes.toString("latin1").slice(9, 12));
    });
  await once(socket, "connect");
  const head = ["Host: x", `Authorization: Bearer ${key}`, "Content-Type: application/json", "Content-Length: 999000"];
  socket.write(`POST ${path} HTTP/1.1\r\n${head.join("\r\n")}\r\n\r\n`);
  socket.write(`{"name":"${"x".repeat(950_000)}`);
  return seen;
}

test.each(["/api/v1/agents", "/trpc/agents.create"])(
  "unfinished bodies to %s of one client fill its own share of the memory, and no more",
  async (path) => {
    const halves = await Promise.all(Array.from({ length: 60 }, () => sendHalf(path, h.ada.key)));
    const refused = () => halves.filter(({ status }) => status !== null);
    await until(async () => refused().length >= 60 - 33);
    expect(new Set(refused().map(({ status }) => status))).toEqual(new Set([429]));
    expect(await h.post("/agents", agent, { key: h.bob.key })).toMatchObject({ status: 201 });
    for (const socket of sockets.splice(0)) socket.destroy();
    await until(async () => (await h.post("/agents", { ...agent, systemPrompt: "x".repeat(20_000) })).status === 201);
  },
  60_000,
);
