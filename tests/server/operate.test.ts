import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { afterAll, beforeEach, describe, expect, test, vi } from "vitest";
import { newId } from "../../db/ids.ts";
import { startTestApp, until } from "../support/app.ts";
import { addAttempts, addDeliveries, addEndpoint } from "../support/dispatch.ts";
import { program } from "../support/program.ts";

// Processes of their own, on a machine that may have other things to do.
vi.setConfig({ testTimeout: 120_000 });
const h = await startTestApp();
const [ada, bob] = [h.ada.clientId, h.bob.clientId];
const children: ChildProcess[] = [];
afterAll(() => {
  for (const child of children) child.kill("SIGKILL");
});

beforeEach(async () => {
  await h.owner`delete from delivery_pauses`;
  await h.owner`delete from deliveries`;
  await h.owner`delete from webhook_endpoints`;
});

const environment = { DATABASE_URL: h.environment.DATABASE_URL!, APP_SECRET: h.environment.APP_SECRET! };

/** The command, as an operator starts it. */
function operate(words: string[], env: Record<string, string> = environment) {
  const child = spawn(process.execPath, program("server/operate/main.ts", ...words), {
    env: { PATH: process.env.PATH, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  children.push(child);
  const told = { out: "", err: "" };
  child.stdout.on("data", (chunk) => (told.out += chunk));
  child.stderr.on("data", (chunk) => (told.err += chunk));
  const ended = once(child, "close").then(([code]) => ({ code: code as number | null, ...told }));
  return { child, told, ended };
}
const deliveries = (...words: string[]) => operate(["deliveries", ...words]).ended;
const pauses = () => h.owner`select scope, reason, paused_by from delivery_pauses order by scope`;

describe("status", () => {
  test("shows the same as the operator endpoint, for people and as JSON", async () => {
    const endpoint = await addEndpoint(h.owner, ada);
    await addDeliveries(h.owner, ada, endpoint, { count: 3, dueSecondsAgo: 3_961 });
    await addDeliveries(h.owner, ada, endpoint, { count: 2, inFlight: true });
    await addAttempts(h.owner, ada, endpoint, { count: 4, minutesAgo: 2, status: 503 });
    const { code, out } = await deliveries("status");
    expect(code).toBe(0);
    expect(out).toMatch(/Oldest due +66 min/);
    expect(out).toMatch(/Waiting +3 pending, 3 due, the oldest for 66 min/);
    expect(out).toMatch(/In flight +2 pending/);
    expect(out).toMatch(/In 5 minutes +4 attempts, 4 failed/);
    expect(out).toContain(endpoint);
    const json = await deliveries("status", "--json");
    const { data } = (await h.get("/admin/deliveries", { key: await h.operator() })).body;
    expect(JSON.parse(json.out)).toMatchObject({
      overview: { waiting: { ...data.waiting, oldestDueSeconds: expect.any(Number) }, lastHour: data.lastHour },
      pauses: [],
    });
  });

  test("repeats until it is stopped", async () => {
    const { child, told, ended } = operate(["deliveries", "status", "--watch", "1", "--json"]);
    await until(async () => told.out.split("\n").length > 2, 60);
    child.kill("SIGINT");
    await ended;
    for (const line of told.out.trim().split("\n")) expect(JSON.parse(line).overview.pauses).toBe(0);
  });
});

describe("pause and resume", () => {
  test("pause and resume deliveries, visible in the API and in the operator's audit", async () => {
    const endpoint = await addEndpoint(h.owner, ada);
    const places: [string[], string][] = [
      [["--all"], "all"],
      [["--client", bob], bob],
      [["--endpoint", endpoint], endpoint],
    ];
    const made = await Promise.all(
      places.map(([where]) => deliveries("pause", ...where, "--reason", "The database moves.")),
    );
    for (const [index, [, scope]] of places.entries())
      expect(made[index]).toMatchObject({ code: 0, out: expect.stringContaining(`Paused: ${scope}`) });
    expect(await pauses()).toEqual(
      ["all", bob, endpoint].map((scope) => ({ scope, reason: "The database moves.", paused_by: "operator:cli" })),
    );
    const { data } = (await h.get("/admin/deliveries/pauses", { key: await h.operator() })).body;
    expect(data).toMatchObject([endpoint, bob, "all"].map((scope) => ({ scope, pausedBy: "operator:cli" })));
    for (const [where, scope] of places.slice(1))
      expect(await deliveries("resume", ...where)).toMatchObject({ code: 0, out: `Resumed: ${scope}.\n` });
    expect(await pauses()).toMatchObject([{ scope: "all" }]);
    const audited = await h.owner`select action, actor, input from audit_log
      where client_id = 'client_00000000000000000000000000' and input->>'scope' = ${endpoint} order by id desc`;
    expect(audited).toEqual([
      { action: "admin.deliveries.pauses.remove", actor: "operator:cli", input: { scope: endpoint } },
      {
        action: "admin.deliveries.pauses.set",
        actor: "operator:cli",
        input: { scope: endpoint, reason: "The database moves." },
      },
    ]);
  });

  test("fail with a message, and change nothing, when the scope is unknown or nothing is paused", async () => {
    const [client, endpoint] = [newId("client"), newId("endpoint")];
    const cases: [string[], string][] = [
      [["pause", "--client", client, "--reason", "x"], `There is no client ${client}.`],
      [["pause", "--endpoint", endpoint, "--reason", "x"], `There is no webhook endpoint ${endpoint}.`],
      [["resume", "--client", bob], `There is no pause with the scope ${bob}.`],
      [["dead", "--client", client], `There is no client ${client}.`],
    ];
    const seen = await Promise.all(cases.map(([words]) => deliveries(...words)));
    expect(seen).toEqual(cases.map(([, sentence]) => ({ code: 1, out: "", err: `${sentence}\n` })));
    expect(await pauses()).toEqual([]);
  });
});

describe("drain", () => {
  test("pauses, and ends well once nothing is in flight; the pause stays", async () => {
    const endpoint = await addEndpoint(h.owner, ada);
    await addDeliveries(h.owner, ada, endpoint, { count: 3, inFlight: true });
    await addDeliveries(h.owner, bob, await addEndpoint(h.owner, bob), { inFlight: true });
    const { told, ended, child } = operate(["deliveries", "drain", "--client", ada, "--timeout", "60"]);
    await until(async () => told.out.includes("In flight: 3"), 60);
    expect(await pauses()).toMatchObject([{ scope: ada, reason: "Drained." }]);
    await h.owner`update deliveries set status = 'delivered', admitted_until = null where id in (
      select id from deliveries where client_id = ${ada} limit 1)`;
    await until(async () => told.out.includes("In flight: 2"), 60);
    expect(child.exitCode).toBeNull();
    await h.owner`update deliveries set status = 'delivered', admitted_until = null where client_id = ${ada}`;
    const { code, out } = await ended;
    expect(code).toBe(0);
    expect(out).toContain("Drained. It stays paused until `operate deliveries resume --client");
    expect(await pauses()).toHaveLength(1);
  });

  test("of a paused scope keeps the reason; after the timeout it lists what is left, and exits with 1", async () => {
    const endpoint = await addEndpoint(h.owner, ada);
    await addDeliveries(h.owner, ada, endpoint, { count: 2, inFlight: true });
    await h.owner`insert into delivery_pauses (scope, reason, paused_by) values ('all', 'A new version.', 'user_x')`;
    const { code, out } = await deliveries("drain", "--all", "--timeout", "1");
    expect(code).toBe(1);
    expect(out).toContain("Not drained after 1 s.");
    expect(out).toMatch(new RegExp(`${ada} +${endpoint} +2 `));
    expect(await pauses()).toEqual([{ scope: "all", reason: "A new version.", paused_by: "user_x" }]);
  });

  test("that is interrupted prints that the pause stays", async () => {
    await addDeliveries(h.owner, ada, await addEndpoint(h.owner, ada), { inFlight: true });
    const { told, ended, child } = operate(["deliveries", "drain", "--all"]);
    await until(async () => told.out.includes("In flight: 1"), 60);
    child.kill("SIGINT");
    expect(await ended).toMatchObject({ code: 130, out: expect.stringContaining("It stays paused until") });
  });
});

test("a name that a client chose does not control the operator's terminal", async () => {
  const name = "Ada\u001b]0;owned\u0007\nroot\u009b2J\u202e";
  const rename = async (to: string) => h.patch("/clients/current", { name: to }, { key: await h.token(h.ada) });
  expect((await rename(name)).status).toBe(200);
  await addDeliveries(h.owner, ada, await addEndpoint(h.owner, ada), {
    status: "dead",
    count: 1,
    finishedMinutesAgo: 1,
  });
  for (const words of [["dead"], ["dead", "--json"]]) {
    const { out } = await deliveries(...words);
    expect(out).toContain("Ada\\u001b]0;owned\\u0007\\");
    expect(out.trimEnd().replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Cf}]/u);
    expect(out.split("\n").filter((line) => line.startsWith("root"))).toEqual([]);
  }
  await rename("Ada");
});

test("dead shows the dead letters of all clients or of one, within the given hours", async () => {
  const [adas, bobs] = [await addEndpoint(h.owner, ada), await addEndpoint(h.owner, bob)];
  await addDeliveries(h.owner, ada, adas, { status: "dead", count: 3, finishedMinutesAgo: 60 });
  await addDeliveries(h.owner, ada, adas, { status: "dead", count: 4, finishedMinutesAgo: 60 * 30 });
  await addDeliveries(h.owner, bob, bobs, { status: "dead", count: 5, finishedMinutesAgo: 60 });
  const all = JSON.parse((await deliveries("dead", "--json")).out);
  expect(all).toMatchObject([
    { clientId: bob, name: "Bob", dead: 5 },
    { clientId: ada, name: "Ada", dead: 3 },
  ]);
  expect(JSON.parse((await deliveries("dead", "--json", "--hours", "72", "--limit", "1")).out)).toMatchObject([
    { clientId: ada, dead: 7 },
  ]);
  const { out } = await deliveries("dead", "--client", ada);
  expect(out.trim().split("\n")).toHaveLength(3);
  expect(out).toContain(adas);
  expect(out).not.toContain(bobs);
  expect((await deliveries("dead", "--hours", "1", "--client", bob)).out).toBe("No dead letters in the last 1 h.\n");
});

describe("used wrongly", () => {
  test("it prints what is wrong, does nothing, and exits with 2", async () => {
    const cases: [string[], string][] = [
      [["pause", "--reason", "x"], "Pass --all, --client or --endpoint."],
      [["pause", "--all", "--client", ada, "--reason", "x"], "cannot be used with option"],
      [["pause", "--all"], "required option '--reason <text>' not specified"],
      [["pause", "--all", "--reason", " "], "It must have 1 to 500 characters."],
      [["resume", "--client", "wh_01m82knxfbfrssk0x3en012rbf"], "It must be an id such as client_01m"],
      [["drain", "--all", "--timeout", "soon"], "It must be a whole number from 1 to 86400."],
      [["statsu"], "Did you mean status?"],
    ];
    const seen = await Promise.all(cases.map(([words]) => deliveries(...words)));
    for (const [index, { code, out, err }] of seen.entries()) {
      expect({ words: cases[index]![0], code, out }).toEqual({ words: cases[index]![0], code: 2, out: "" });
      expect(err).toContain(cases[index]![1]);
    }
    expect(await pauses()).toEqual([]);
  });

  test("without an environment, or a reachable database, it prints one sentence and exits with 1", async () => {
    const bare = await operate(["deliveries", "status"], {}).ended;
    expect(bare.code).toBe(1);
    expect(bare.err).toContain("DATABASE_URL is not set.");
    expect(bare.err).toContain("APP_SECRET is not set.");
    const nobody = { ...environment, DATABASE_URL: "postgres://nobody:secret@127.0.0.1:1/nothing" };
    const deaf = await operate(["deliveries", "status"], nobody).ended;
    expect(deaf).toMatchObject({ code: 1, out: "" });
    expect(deaf.err).toMatch(/^The database is unreachable: [^\n]+\n$/);
    expect(`${bare.err}${deaf.err}`).not.toMatch(/secret@|\n +at /);
  });

  test("help needs no environment, shows examples on every command and exits with 0", async () => {
    const verbs = ["status", "pause", "resume", "drain", "dead"].map((verb) => `deliveries ${verb}`);
    const commands = ["", "deliveries", ...verbs];
    const helps = await Promise.all(
      commands.map((words) => operate([...words.split(" ").filter(Boolean), "--help"], {}).ended),
    );
    for (const [place, { code, out }] of helps.entries()) {
      const command = `operate ${commands[place]}`.trim();
      expect(code, command).toBe(0);
      expect(out.slice(out.indexOf("\nExamples:\n")), command).toContain(`\n  ${command}`);
    }
    expect(helps[0]!.out).toContain("deliveries");
  });

  test("help shows what a command requires", async () => {
    const [pause, resume] = await Promise.all(["pause", "resume"].map((verb) => deliveries(verb, "--help")));
    const where = "(--all | --client <id> | --endpoint <id>)";
    expect(pause!.out).toContain(`Usage: operate deliveries pause ${where} --reason <text>\n`);
    expect(resume!.out).toContain(`Usage: operate deliveries resume ${where}\n`);
  });
});

describe("numbers", () => {
  const numbers = (...words: string[]) => operate(["numbers", ...words]).ended;

  test("are assigned, listed, reassigned and released, and are in the operator's audit", async () => {
    const assigned = await numbers("assign", "--client", ada, "+49301234*");
    expect(assigned).toMatchObject({ code: 0, out: expect.stringContaining(`+49301234* to ${ada}`) });
    const id = /num_[0-9a-z]{26}/.exec(assigned.out)![0];
    expect((await numbers("list")).out).toContain(id);
    const taken = await numbers("assign", "--client", bob, "+493012345");
    expect(taken).toMatchObject({ code: 1, err: expect.stringContaining("overlaps with an assigned number") });
    expect((await numbers("reassign", id, "--client", bob)).out).toContain(bob);
    expect(await numbers("release", id)).toMatchObject({ code: 0 });
    expect((await numbers("list")).out).toBe("No number is assigned.\n");
    expect((await numbers("list", "--waiting")).out).toBe("No route waits for a number.\n");
    expect((await numbers("assign", "--client", ada, "*")).code).toBe(2);
    const audited = await h.owner`select action from audit_log where action like 'admin.numbers.%' order by id`;
    expect(audited.map(({ action }) => action)).toEqual([
      "admin.numbers.assign",
      "admin.numbers.reassign",
      "admin.numbers.release",
    ]);
  });
});
