import { setTimeout as sleep } from "node:timers/promises";
import type { Database, Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { countDeadByClient, listDead } from "../../routers/admin/deliveries/dead-letters.ts";
import {
  clearPause,
  countInFlight,
  findPause,
  listInFlight,
  listPauses,
  setPause,
} from "../../routers/admin/deliveries/pauses.ts";
import type { DispatchOverview, Pause } from "../../routers/admin/deliveries/schema.ts";
import { getDispatchOverview } from "../../routers/admin/deliveries/service.ts";
import { getClient } from "../../routers/admin/service.ts";
import { recordAudit } from "../../routers/core/audit.ts";
import { platformClientId } from "../../routers/core/authorize.ts";
import type { CliContext } from "./cli-context.ts";
import { duration, table } from "./table.ts";

const actor = "operator:cli";
/** Whoever was admitting when the pause was made may commit a moment after it. */
const calmMs = 1_000;
const lookEveryMs = 250;

type Status = { at: string; overview: DispatchOverview; pauses: Pause[] };

export async function status(
  { db, say, clear }: CliContext,
  { json = false, everySeconds }: { json?: boolean; everySeconds?: number },
) {
  for (;;) {
    const seen = await db.asSystem(lookAround, { mode: "read" });
    if (everySeconds && !json) clear();
    say(json ? JSON.stringify(seen) : describe(seen));
    if (!everySeconds) return;
    await sleep(everySeconds * 1000);
  }
}

async function lookAround(tx: Tx): Promise<Status> {
  const now = new Date();
  // One page, which nobody goes on from: there are never many.
  const key = { secret: Buffer.alloc(32), clientId: platformClientId, procedure: "operate", filters: {} };
  const [overview, { items: pauses }] = await Promise.all([
    getDispatchOverview(tx, now),
    listPauses(tx, { limit: 100 }, key),
  ]);
  return { at: now.toISOString(), overview, pauses };
}

export async function pause({ db, say }: CliContext, scope: string, reason: string) {
  const { inFlight, pausedAt } = await makePause(db, scope, reason);
  say(`Paused: ${scope}, since ${pausedAt}. In flight and ending: ${inFlight}.`);
}

async function makePause(db: Database, scope: string, reason: string): Promise<Pause> {
  return command(db, "admin.dispatch.pauses.set", { scope, reason }, (tx) => setPause(tx, { scope, reason }, actor));
}

export async function resume({ db, say }: CliContext, scope: string) {
  await command(db, "admin.dispatch.pauses.clear", { scope }, (tx) => clearPause(tx, scope));
  say(`Resumed: ${scope}.`);
}

/** One transaction of the house, audited as the door of the same name is. */
function command<T>(
  db: Database,
  action: string,
  input: { scope: string; reason?: string },
  work: (tx: Tx) => Promise<T>,
): Promise<T> {
  const requestId = newId("request");
  return db.asSystem(
    async (tx) => {
      const done = await work(tx);
      await recordAudit(tx, { actor, action, subjectId: null, input, requestId });
      return done;
    },
    { requestId, clientId: platformClientId },
  );
}

/** Pauses, and waits until nothing is in flight; false when the time was over before. */
export async function drain(
  { db, say }: CliContext,
  scope: string,
  { reason, timeoutSeconds }: { reason?: string; timeoutSeconds: number },
): Promise<boolean> {
  // Whoever drains what is paused already does not put another reason in the place of the one that was given.
  const earlier = reason ? null : await db.asSystem((tx) => findPause(tx, scope), { mode: "read" });
  const { pausedAt } = earlier ?? (await makePause(db, scope, reason ?? "Drained."));
  say(`Paused: ${scope}, since ${pausedAt}. Waiting for what is in flight, ${timeoutSeconds} s at most.`);
  const interrupted = () => {
    say(staysPaused(scope));
    process.exit(130);
  };
  process.once("SIGINT", interrupted);
  const drained = await untilCalm({ db, say }, scope, timeoutSeconds);
  process.off("SIGINT", interrupted);
  if (!drained) await sayWhatIsLeft({ db, say }, scope, timeoutSeconds);
  say(`${drained ? "Drained. " : ""}${staysPaused(scope)}`);
  return drained;
}

const staysPaused = (scope: string) => `It stays paused until \`operate deliveries resume ${flagOf(scope)}\`.`;

/** Is nothing in flight any more, at every look of a whole second? false when the time is over. */
async function untilCalm(
  { db, say }: Omit<CliContext, "clear">,
  scope: string,
  timeoutSeconds: number,
): Promise<boolean> {
  const end = performance.now() + timeoutSeconds * 1000;
  let told: number | undefined;
  let calmSince: number | undefined;
  while (performance.now() < end) {
    const left = await db.asSystem((tx) => countInFlight(tx, scope), { mode: "read" });
    if (left !== told) say(`In flight: ${left}`);
    told = left;
    const now = performance.now();
    calmSince = left === 0 ? (calmSince ?? now) : undefined;
    if (calmSince !== undefined && now - calmSince >= calmMs) return true;
    await sleep(lookEveryMs);
  }
  return false;
}

async function sayWhatIsLeft({ db, say }: Omit<CliContext, "clear">, scope: string, timeoutSeconds: number) {
  const left = await db.asSystem((tx) => listInFlight(tx, scope), { mode: "read" });
  say(`Not drained after ${timeoutSeconds} s. In flight, with the end of the last lease:`);
  say(
    table(
      left.map(({ clientId, endpointId, inFlight, until }) => {
        return [clientId, endpointId, String(inFlight), until?.toISOString() ?? ""];
      }),
    ),
  );
  say("A lease that is long over belongs to a worker that is gone, and is freed by the next one that runs.");
}

function flagOf(scope: string): string {
  if (scope === "all") return "--all";
  return scope.startsWith("wh_") ? `--endpoint ${scope}` : `--client ${scope}`;
}

type DeadOptions = { client?: string; hours: number; limit: number; json?: boolean };

export async function dead({ db, say }: CliContext, { client, hours, limit, json = false }: DeadOptions) {
  const window = { minutes: hours * 60, limit };
  const shown = client ? await deadOf(db, client, window) : await deadOfAll(db, window);
  if (json) return say(JSON.stringify(shown.rows));
  if (shown.rows.length === 0) return say(`Nothing was given up in ${hours} h.`);
  say(table(shown.lines));
}

async function deadOf(db: Database, clientId: string, window: { minutes: number; limit: number }) {
  const rows = await db.asSystem(
    async (tx) => {
      await getClient(tx, clientId);
      return listDead(tx, clientId, window);
    },
    { mode: "read" },
  );
  const lines = rows.map((row) => [
    row.finishedAt?.toISOString() ?? "",
    row.id,
    row.endpointId,
    row.eventType,
    `${row.attempts} attempts`,
    String(row.lastStatus ?? ""),
    row.lastError ?? "",
  ]);
  return { rows, lines };
}

async function deadOfAll(db: Database, window: { minutes: number; limit: number }) {
  const rows = await db.asSystem((tx) => countDeadByClient(tx, window), { mode: "read" });
  const lines = rows.map(({ clientId, name, dead, capped, last }) => [
    clientId,
    name,
    `${dead}${capped ? "+" : ""} dead`,
    `last ${last.toISOString()}`,
  ]);
  return { rows, lines };
}

function describe({ at, overview, pauses }: Status): string {
  const { waiting, paused, inFlight, suspended, lastFiveMinutes, lastHour, oldest } = overview;
  const backlog = (row: DispatchOverview["waiting"]) => {
    const more = row.capped ? "+" : "";
    const since = row.due > 0 ? `, the oldest for ${duration(row.oldestDueSeconds)}` : "";
    return `${row.pending}${more} pending, ${row.due}${more} due${since}`;
  };
  const tried = ({ attempts, failures, capped }: DispatchOverview["lastHour"]) =>
    `${attempts}${capped ? "+" : ""} attempts, ${failures} failed`;
  const facts = table([
    ["Oldest due", overview.oldestDueSeconds === 0 ? "nothing" : duration(overview.oldestDueSeconds)],
    ["Waiting", backlog(waiting)],
    ["Paused", backlog(paused)],
    ["In flight", backlog(inFlight)],
    ["Suspended", backlog(suspended)],
    ["In 5 minutes", tried(lastFiveMinutes)],
    ["In an hour", tried(lastHour)],
    ["Dead", `${overview.dead.last24Hours}${overview.dead.capped ? "+" : ""} in 24 hours`],
    ["Switched off", `${overview.endpointsDisabledLast7Days} endpoints in 7 days`],
    ["Queue", `${duration(overview.queueLagSeconds)} behind`],
  ]);
  const held = pauses.map((each) => [
    each.scope,
    `since ${each.pausedAt}`,
    `by ${each.pausedBy}`,
    `${each.inFlight} in flight`,
    each.reason,
  ]);
  const longest = oldest.map(({ clientId, endpointId, cause, oldestDueSeconds }) => [
    clientId,
    endpointId,
    cause,
    duration(oldestDueSeconds),
  ]);
  return [
    `Deliveries at ${at}`,
    facts,
    ...(held.length > 0 ? ["Pauses", table(held)] : []),
    ...(longest.length > 0 ? ["Waited longest", table(longest)] : []),
  ].join("\n\n");
}
