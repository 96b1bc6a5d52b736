import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { openSync } from "node:fs";
import { Agent, type ClientRequest, get as httpGet } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, expect, test } from "vitest";
import { startTestApp, until } from "../support/app.ts";
import { program } from "../support/program.ts";

const h = await startTestApp();
const children: ChildProcess[] = [];
afterAll(() => {
  for (const child of children) child.kill("SIGKILL");
});

/** A separate process, whose output goes to a file or to a pipe that is read only when the test reads it. */
async function start(env: Record<string, string>, stdout: "pipe" | number = "pipe") {
  const port = String(20_000 + Math.floor(Math.random() * 20_000));
  const child = spawn(process.execPath, program("server/api.ts"), {
    env: { PATH: process.env.PATH, ...h.environment, LOG_LEVEL: "info", ...env, PORT: port },
    stdio: ["ignore", stdout, "ignore"],
  });
  children.push(child);
  const url = `http://127.0.0.1:${port}`;
  const exited = once(child, "exit").then(([code]) => code as number | null);
  await until(() =>
    fetch(`${url}/health/ready`).then(
      ({ ok }) => ok,
      () => false,
    ),
  );
  return { child, url, exited };
}

type Seen = { status: number; closes: boolean; reused: boolean };

function ask(url: string, agent: Agent): Promise<Seen> {
  return new Promise((resolve, reject) => {
    const request: ClientRequest = httpGet(url, { agent, headers: { authorization: `Bearer ${h.ada.key}` } }, (res) => {
      res.resume().once("end", () =>
        resolve({
          status: res.statusCode!,
          closes: res.headers.connection === "close",
          reused: request.reusedSocket,
        }),
      );
    });
    request.once("error", (error) => reject(Object.assign(error, { reused: request.reusedSocket })));
  });
}

test("a process that is stopped interrupts no request of a connection that is kept alive", async () => {
  const graceMs = 3_000;
  const { child, url, exited } = await start({ SHUTDOWN_GRACE_SECONDS: String(graceMs / 1000) });
  child.stdout!.resume();
  const agent = new Agent({ keepAlive: true, maxSockets: 12 });
  const failures: unknown[] = [];
  const seen: Seen[] = [];
  let isOver = false;
  let stoppedAt = Number.POSITIVE_INFINITY;
  const clients = Array.from({ length: 12 }, async () => {
    while (!isOver) {
      await ask(`${url}/api/v1/agents`, agent).then(
        (answer) => seen.push(answer),
        (error: NodeJS.ErrnoException & { reused: boolean }) => {
          if (error.reused) failures.push(error.code);
          else if (Date.now() > stoppedAt + graceMs)
            isOver = true; // the port closes: a balancer has left by then
          else failures.push(`${error.code} on a new connection`);
        },
      );
      await sleep(20 + Math.random() * 60);
    }
  });
  await until(async () => seen.filter(({ reused }) => reused).length > 50);
  expect(seen.some(({ closes }) => closes)).toBe(false);
  stoppedAt = Date.now();
  child.kill("SIGTERM");
  await until(async () => (await fetch(`${url}/health/ready`)).status === 503, 3);
  await until(async () => seen.filter(({ closes }) => closes).length > 12);
  await Promise.all(clients);
  expect(failures).toEqual([]);
  expect(seen.filter(({ status }) => status !== 200)).toEqual([]);
  expect(await exited).toBe(0);
  agent.destroy();
}, 60_000);

test("a process that cannot write its log to a full disk serves, reports it in its health, and ends", async () => {
  const { child, url, exited } = await start({ LOG_LEVEL: "debug" }, openSync("/dev/full", "w"));
  await flood(url, 200);
  expect((await fetch(`${url}/health`)).status).toBe(200);
  child.kill("SIGTERM");
  expect(await withDeadline(exited)).toBe(0);
}, 60_000);

test("a process whose log is not read serves, drops lines and counts them, and ends", async () => {
  const { child, url, exited } = await start({ LOG_LEVEL: "info" });
  child.stdout!.pause();
  const long = "x".repeat(10_000);
  for (let round = 0; round < 12; round += 1) await flood(`${url}/${long}`, 60);
  const health = (await (await fetch(`${url}/health`)).json()) as { status: string; logs: { dropped: number } };
  expect(health.status).toBe("ok");
  expect(health.logs.dropped).toBeGreaterThan(0);
  child.kill("SIGTERM");
  expect(await withDeadline(exited)).toBe(0);
}, 120_000);

async function flood(url: string, requests: number) {
  await Promise.all(Array.from({ length: requests }, () => fetch(url).then((response) => response.arrayBuffer())));
}

const withDeadline = (exited: Promise<number | null>) => Promise.race([exited, sleep(15_000, "still running")]);
