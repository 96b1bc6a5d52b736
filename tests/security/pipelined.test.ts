import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { connect } from "node:net";
import { afterAll, afterEach, expect, test } from "vitest";
import { agent, startTestApp, until } from "../support/app.ts";
import { program } from "../support/program.ts";

/** Several requests on one connection, sent without waiting for the answers. */
const h = await startTestApp();
const children: ChildProcess[] = [];
afterAll(() => {
  for (const child of children) child.kill("SIGKILL");
});
afterEach(() => h.simulator.faults({}));

/** A connection that collects what the server sends. */
function open(url: string) {
  const socket = connect(Number(new URL(url).port), "127.0.0.1");
  let received = "";
  socket.on("data", (chunk) => (received += chunk.toString("latin1"))).on("error", () => {});
  return {
    send: (text: string) => void socket.write(text),
    statuses: () => [...received.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => Number(status)),
    closed: once(socket, "close"),
  };
}

const head = (method: string) => `${method} /api/v1/agents HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${h.ada.key}`;
const list = `${head("GET")}\r\n\r\n`;
function create(name: string): string {
  const body = JSON.stringify({ ...agent, name });
  return `${head("POST")}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
}
const created = async (name: string) => {
  const [row] = await h.owner`select count(*)::int as n from agents where name = ${name}`;
  return row!.n as number;
};
const begun = (name: string, count = 1) => until(async () => (await created(name)) === count);
/** Agents are created slowly, so that their requests are still open at the time of the test. */
const slowly = () => h.simulator.faults({ create: { slow: 10, slowMs: 1_500 }, applyTo: "agents" });

async function startChild() {
  const port = String(20_000 + Math.floor(Math.random() * 20_000));
  const env = { PATH: process.env.PATH, ...h.environment, SHUTDOWN_GRACE_SECONDS: "4", PORT: port };
  const child = spawn(process.execPath, program("server/api.ts"), { env, stdio: "ignore" });
  children.push(child);
  const url = `http://127.0.0.1:${port}`;
  const isReady = () => fetch(`${url}/health/ready`).then(({ ok }) => ok);
  await until(() => isReady().catch(() => false));
  return { child, url, exited: once(child, "exit").then(([code]) => code as number | null) };
}

test("a process that is stopped answers every pipelined request that it executes", { timeout: 60_000 }, async () => {
  const { child, url, exited } = await startChild();
  await slowly();
  const connection = open(url);
  connection.send(create("Before") + create("Before") + create("Before"));
  await begun("Before", 3);
  child.kill("SIGTERM");
  await until(async () => (await fetch(`${url}/health/ready`)).status === 503, 3);
  const later = open(url);
  later.send(create("After") + create("After") + list);
  await Promise.all([connection.closed, later.closed]);
  expect(connection.statuses()).toEqual([201, 201, 201]);
  expect(later.statuses()).toEqual([201, 201, 200]);
  expect([await created("Before"), await created("After")]).toEqual([3, 2]);
  expect(await exited).toBe(0);
});

test("a request that cannot be read is refused after the answers to those before it", async () => {
  await slowly();
  const connection = open(h.url);
  connection.send(`${create("Answered")}nonsense\r\n\r\n`);
  await begun("Answered");
  connection.send("more of it\r\n\r\n");
  await connection.closed;
  expect(connection.statuses()).toEqual([201, 400]);
});

test("a refused body does not end the connection before the answers to the requests before it", async () => {
  await h.simulator.faults({ create: { slow: 10, slowMs: 4_000 }, applyTo: "agents" });
  const connection = open(h.url);
  const refused = `${head("POST")}\r\nContent-Type: text/xml\r\nContent-Length: 1000\r\n\r\n<a>`;
  connection.send(create("Awaited") + refused);
  await connection.closed;
  expect(connection.statuses()).toEqual([201, 415]);
  expect(await created("Awaited")).toBe(1);
});

test("a tunnel is refused after the answers to the requests before it", async () => {
  await slowly();
  const connection = open(h.url);
  connection.send(create("Tunnelled"));
  await begun("Tunnelled");
  connection.send("CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: x\r\n\r\n");
  await connection.closed;
  expect(connection.statuses()).toEqual([201, 400]);
});
