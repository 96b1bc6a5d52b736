import { type ChildProcess, execFile, spawn, spawnSync } from "node:child_process";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { globSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { request } from "node:http";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { basename, join, resolve } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { newSecret, sign } from "../../routers/webhooks/endpoints/signature.ts";
import { bodyOf, readVectors, type Vector, type Vectors } from "../support/webhook-vectors.ts";

/**
 * Runs the programs of docs/receivers/ as docs/webhook-receivers.md describes. Node programs always run; of the others, those
 * whose tools are installed. The name of the first test lists them.
 */
const run = promisify(execFile);
const root = resolve(import.meta.dirname, "../..");
const folder = join(root, "docs/receivers");
const generator = join(root, "tests/support/webhook-vectors.py");
const page = readFileSync(join(root, "docs/webhook-receivers.md"), "utf8");
const minutes = 60_000;
vi.setConfig({ testTimeout: 5 * minutes });

const works = (command: string, ...words: string[]) => spawnSync(command, words, { timeout: 20_000 }).status === 0;

type Receiver = {
  file: string;
  here: boolean;
  /** Whether it supports public keys on this machine: Python needs a package, PHP an extension. */
  knowsEd25519: boolean;
  /** The framework limits the body, not this file. */
  unbounded?: boolean;
  command: (port: number) => [string, ...string[]] | Promise<[string, ...string[]]>;
};

const node = (file: string): [string, ...string[]] => [process.execPath, "--conditions=patchbay-source", file];
const receivers: Receiver[] = [
  { file: "receiver.ts", here: true, knowsEd25519: true, command: () => node(join(folder, "receiver.ts")) },
  { file: "express.ts", here: true, knowsEd25519: true, command: () => node(join(folder, "express.ts")) },
  {
    file: "next.ts",
    here: true,
    knowsEd25519: true,
    unbounded: true,
    command: () => node(join(root, "tests/support/next-child.ts")),
  },
  {
    file: "receiver.py",
    here: works("python3", "-c", "import sys; sys.exit(sys.version_info < (3, 9))"),
    knowsEd25519: works("python3", "-c", "import cryptography"),
    command: () => ["python3", join(folder, "receiver.py")],
  },
  {
    file: "receiver.go",
    here: works("go", "version"),
    knowsEd25519: true,
    command: async () => {
      const built = join(home, "receiver-go");
      const env = { ...process.env, GOPROXY: "off", GOTOOLCHAIN: "local" };
      await run("go", ["build", "-o", built, join(folder, "receiver.go")], { env, timeout: 4 * minutes });
      return [built];
    },
  },
  {
    file: "receiver.php",
    here: works("php", "-r", "exit(PHP_VERSION_ID < 80100 ? 1 : 0);"),
    knowsEd25519: works("php", "-r", "exit(function_exists('sodium_crypto_sign_verify_detached') ? 0 : 1);"),
    command: (port) => ["php", "-S", `127.0.0.1:${port}`, join(folder, "receiver.php")],
  },
];
const here = receivers.filter((receiver) => receiver.here);
/** Parts that need optional tools: the vectors for the present time, and the script. */
const hasOpenssl = works("openssl", "pkeyutl", "-help");
const generators = hasOpenssl && works("python3", "--version") ? ["webhook-vectors.py"] : [];
const signers = hasOpenssl && works("sh", "-c", "command -v curl && command -v od") ? ["sign.sh"] : [];

let home = "";
const children = new Set<ChildProcess>();
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "patchbay-receivers-"));
});
afterAll(async () => {
  await Promise.all([...children].map(ended));
  await rm(home, { recursive: true, force: true });
});

const tools = ["webhook-vectors.py", "sign.sh"];
const tried = [...here.map(({ file }) => file), ...generators, ...signers];
const untried = [...receivers.map(({ file }) => file), ...tools].filter((file) => !tried.includes(file));
test(`tested: ${tried.join(", ")}; not installed: ${untried.join(", ") || "none"}`, () => {
  expect(here.map(({ file }) => file)).toEqual(expect.arrayContaining(["receiver.ts", "express.ts", "next.ts"]));
  const known = [...receivers.map(({ file }) => file), "sign.sh"];
  expect(globSync("*.*", { cwd: folder }).sort()).toEqual(known.sort());
});

describe.each(here.map((receiver) => [receiver.file, receiver] as const))("%s", (_, receiver) => {
  const kinds = receiver.knowsEd25519 ? (["v1", "v1a"] as const) : (["v1"] as const);

  test.each(kinds)("accepts a message signed with %s once, and no changed message", async (kind) => {
    const { secret, publicKey } = newSecret(kind);
    const running = await start(receiver, [newSecret().secret, publicKey ?? secret]);
    const event = (id: string) => message(id, [newSecret(kind).secret, secret]);
    const { headers, body } = event("evt_1");
    expect(await post(running.port, headers, body)).toBe(204);
    expect(await post(running.port, headers, body)).toBe(204);
    expect(await post(running.port, headers, Buffer.concat([body, Buffer.from(" ")]))).toBe(400);
    expect(await post(running.port, { ...headers, "webhook-id": "evt_2" }, body)).toBe(400);
    if (!receiver.unbounded) {
      expect(await post(running.port, headers, Buffer.alloc(1_048_577, "a"))).toBeOneOf([413, "hung up"]);
    }
    const next = event("evt_3");
    expect(await post(running.port, next.headers, next.body)).toBe(204);
    expect(await running.handled(2)).toEqual(["evt_1 call.ended", "evt_3 call.ended"]);
  });

  test.each(generators)("accepts and refuses the vectors of %s", async () => {
    const command = await commandOf(receiver);
    const { vectors } = await generated(Math.floor(Date.now() / 1000));
    const groups = Object.groupBy(
      vectors.filter((vector) => isFor(receiver, vector)),
      ({ secrets }) => secrets.join(" "),
    );
    expect(Object.keys(groups).length).toBeGreaterThan(receiver.knowsEd25519 ? 7 : 3);
    for (const group of Object.values(groups)) {
      const running = await start({ ...receiver, command }, group![0]!.secrets);
      const answers: [string, number | string][] = [];
      const isGood = ({ verdict }: Vector) => verdict === "accepted";
      const good = group!.filter(isGood);
      for (const vector of [...group!.filter((each) => !isGood(each)), ...good, ...good]) {
        answers.push([vector.name, await post(running.port, Object.fromEntries(vector.headers), bodyOf(vector))]);
      }
      expect(answers.slice(0, group!.length - good.length).filter(([, status]) => status !== 400)).toEqual([]);
      expect(answers.slice(group!.length - good.length).filter(([, status]) => status !== 204)).toEqual([]);
      const ids = new Set(good.map(({ headers }) => headers[0]![1]));
      const lines = await running.handled(ids.size);
      expect(lines.map((line) => line.split(" ")[0]).sort()).toEqual([...ids].sort());
    }
  });

  test("rejects a private key with an error message", async () => {
    const { secret } = newSecret("v1a");
    const { headers, body } = message("evt_1", [secret]);
    const { child, port, output } = await spawned(receiver, [secret]);
    await until(() => child.exitCode !== null || isOpen(port));
    const answer = child.exitCode === null ? await post(port, headers, body) : "ended";
    expect(answer).toBeOneOf([500, "ended"]);
    expect(answer === "ended" ? child.exitCode : 1).not.toBe(0);
    await until(() => /whsk_.*private key/.test(output()));
    await ended(child);
  });
});

test.each(generators)("the vectors are generated by %s, independently of our code", async () => {
  const { now } = readVectors().vectors[0]!;
  expect(await generated(now)).toEqual(readVectors());
  expect(readFileSync(generator, "utf8")).not.toMatch(/\bnode\b|\.ts\b/);
});

describe.each(signers)("%s", () => {
  const known = readVectors().signing.slice(0, 4);

  test.each(known.map((each) => [each.name, each] as const))("prints the known signature: %s", async (_, answer) => {
    const { id, timestampSeconds, body, secrets, signature } = answer;
    const unreachable = { WEBHOOK_URL: `http://127.0.0.1:${await freePort()}/` };
    const env = { WEBHOOK_ID: id, WEBHOOK_TIMESTAMP: String(timestampSeconds), ...unreachable };
    expect(await signSh(secrets, env, body)).toContain(`webhook-signature: ${signature}\n`);
  });

  test("is accepted only by a receiver that has the key", async () => {
    const [pair, shared] = [newSecret("v1a"), newSecret()];
    const running = await start(receivers[0]!, [shared.secret, pair.publicKey!]);
    const env = (id: string) => ({ WEBHOOK_ID: id, PORT: String(running.port) });
    expect(await signSh([shared.secret], env("evt_1"))).toMatch(/\n204\n$/);
    expect(await signSh([pair.secret], env("evt_2"), '{"type":"it\'s \\"50 %\\" ü\\n"}')).toMatch(/\n204\n$/);
    expect(await signSh([newSecret().secret], env("evt_3"))).toMatch(/\n400\n$/);
    expect(await running.handled(2)).toEqual(["evt_1 call.ended", 'evt_2 it\'s "50 %" ü']);
  });
});

describe("docs/webhook-receivers.md", () => {
  test.each(globSync("*.*", { cwd: folder }))("contains %s unchanged", (file) => {
    const language = { go: "go", php: "php", py: "python", sh: "sh", ts: "ts" }[basename(file).split(".")[1]!];
    expect(page).toContain(`\n\`\`\`${language}\n${readFileSync(join(folder, file), "utf8")}\`\`\`\n`);
    expect(page).toContain(`](receivers/${file})`);
  });
});

/** A message signed now, with the id of its event. */
function message(id: string, secrets: string[]) {
  const body = JSON.stringify({
    id,
    type: "call.ended",
    subject: { type: "call", id: "call_1", sequence: 1 },
    data: {},
  });
  const timestampSeconds = Math.floor(Date.now() / 1000);
  const signature = sign({ id, timestampSeconds, body, secrets });
  const headers = { "webhook-id": id, "webhook-timestamp": String(timestampSeconds), "webhook-signature": signature };
  return { headers, body: Buffer.from(body) };
}

async function generated(now: number): Promise<Vectors> {
  const { stdout } = await run("python3", [generator, "--now", String(now)], { timeout: minutes, maxBuffer: 2 ** 24 });
  return JSON.parse(stdout) as Vectors;
}

/** Receivers use the real clock, so vectors at the edge of the window are skipped: time would move them out of it. */
function isFor({ knowsEd25519 }: Receiver, { secrets, headers, toleranceSeconds, verdict, now }: Vector): boolean {
  const timestamp = Number(headers.find(([name]) => name.toLowerCase() === "webhook-timestamp")?.[1]);
  const moves = timestamp === now - toleranceSeconds || timestamp === now + toleranceSeconds + 1;
  if (verdict === "misconfigured" || toleranceSeconds !== 300 || moves) return false;
  return knowsEd25519 || !secrets.some((secret) => secret.startsWith("whpk_"));
}

/** The command; a compiler runs only once. */
async function commandOf(receiver: Receiver): Promise<Receiver["command"]> {
  if (receiver.file !== "receiver.go") return receiver.command;
  const built = await receiver.command(0);
  return () => built;
}

async function spawned(receiver: Receiver, secrets: string[]) {
  const port = await freePort();
  const [command, ...words] = await receiver.command(port);
  const workingFolder = await mkdtemp(join(home, "run-"));
  const child = spawn(command, words, {
    cwd: workingFolder,
    env: {
      PATH: process.env.PATH,
      HOME: process.env.HOME,
      TMPDIR: workingFolder,
      WEBHOOK_SECRET: secrets.join(" "),
      PORT: String(port),
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  children.add(child);
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk) => (stdout += chunk));
  child.stderr.on("data", (chunk) => (stderr += chunk));
  return { child, port, stdout: () => stdout, output: () => stdout + stderr };
}

async function start(receiver: Receiver, secrets: string[]) {
  let running = await spawned(receiver, secrets);
  await until(async () => {
    const { child, port, output } = running;
    if (child.exitCode === null) return isOpen(port);
    if (!child.stdout.closed || !child.stderr.closed) return false;
    if (!/EADDRINUSE|address already in use/i.test(output())) throw new Error(`${receiver.file} ended:\n${output()}`);
    await ended(child);
    running = await spawned(receiver, secrets);
    return false;
  });
  const { child, port, stdout } = running;
  return {
    port,
    /** Waits for this many lines, stops the receiver, and returns all lines that it wrote. */
    async handled(lines: number): Promise<string[]> {
      await until(() => stdout().split("\n").length > lines);
      await ended(child);
      return stdout().split("\n").filter(Boolean);
    },
  };
}

async function ended(child: ChildProcess) {
  if (child.exitCode === null && child.signalCode === null) {
    const closed = once(child, "close");
    child.kill("SIGKILL");
    await closed;
  }
  children.delete(child);
}

/** The status, or "hung up" if the receiver closed the connection. */
function post(port: number, headers: Record<string, string>, body: Buffer): Promise<number | "hung up"> {
  return new Promise((resolvePost, reject) => {
    const all = { ...headers, "content-type": "application/json", "content-length": String(body.length) };
    const outgoing = request(
      { host: "127.0.0.1", port, path: "/hooks", method: "POST", headers: all, agent: false },
      (response) => resolvePost(response.resume().statusCode!),
    );
    outgoing.setTimeout(15_000, () => outgoing.destroy(new Error("No response within 15 s.")));
    outgoing.on("error", (error: NodeJS.ErrnoException) =>
      error.code === "ECONNRESET" || error.code === "EPIPE" ? resolvePost("hung up") : reject(error),
    );
    outgoing.end(body);
  });
}

async function signSh(secrets: string[], env: Record<string, string>, ...body: string[]): Promise<string> {
  const whole = { PATH: process.env.PATH, TMPDIR: home, WEBHOOK_SECRET: secrets.join(" "), ...env };
  const script = [join(folder, "sign.sh"), ...body];
  return await run("sh", script, { env: whole, timeout: minutes }).then(
    ({ stdout }) => stdout,
    (error: { stdout: string }) => error.stdout, // curl could not connect
  );
}

async function until(holds: () => boolean | Promise<boolean>) {
  const end = Date.now() + minutes;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error("The condition was not met within a minute.");
    await new Promise((soon) => setTimeout(soon, 20));
  }
}

async function isOpen(port: number): Promise<boolean> {
  const socket = connect(port, "127.0.0.1");
  const open = await once(socket, "connect").then(
    () => true,
    () => false,
  );
  socket.destroy();
  return open;
}

/** Below the ephemeral ports of the system. */
async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(20_000, 32_000);
    const server = createServer().listen(port, "127.0.0.1");
    const isFree = await once(server, "listening").then(
      () => true,
      () => false,
    );
    await new Promise((closed) => server.close(closed));
    if (isFree) return port;
  }
}
