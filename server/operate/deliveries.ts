import { setTimeout as sleep } from "node:timers/promises";
import type { Database, Tx } from "../../db/client.ts";
import { countDeadByClient, listDead } from "../../routers/admin/deliveries/dead-letters.ts";
import {
  countInFlight,
  findPause,
  listInFlight,
  listPauses,
  removePause,
  setPause,
} from "../../routers/admin/deliveries/pauses.ts";
import type { DeliveryOverview, Pause } from "../../routers/admin/deliveries/schema.ts";
import { getDeliveryOverview } from "../../routers/admin/deliveries/service.ts";
import { getClient } from "../../routers/admin/service.ts";
import { actor, audited, pageKeyOf } from "./audited.ts";
import type { CliContext } from "./cli-context.ts";
import { duration, table } from "./table.ts";

/** A worker that was admitting a delivery when the pause was made may commit a moment later. */
const calmMs = 1_000;
const pollMs = 250;

type Status = { at: string; overview: DeliveryOverview; pauses: Pause[] };

export async function status(
  { db, print, clear }: CliContext,
  { json = false, everySeconds }: { json?: boolean; everySeconds?: number },
) {
  for (;;) {
    const seen = await db.asSystem(readStatus, { mode: "read" });
    if (everySeconds && !json) clear();
    print(json ? JSON.stringify(seen) : describe(seen));
    if (!everySeconds) return;
    await sleep(everySeconds * 1000);
  }
}

async function readStatus(tx: Tx): Promise<Status> {
  const now = new Date();
  // One page: there are never many pauses.
  const key = pageKeyOf("operate");
  const [overview, { items: pauses }] = await Promise.all([
    getDeliveryOverview(tx, now),
    listPauses(tx, { limit: 100 }, key),
  ]);
  return { at: now.toISOString(), overview, pauses };
}

export async function pause({ db, print }: CliContext, scope: string, reason: string) {
  const { inFlight, pausedAt } = await makePause(db, scope, reason);
  print(`Paused: ${scope}, since ${pausedAt}. In flight and ending: ${inFlight}.`);
}

async function makePause(db: Database, scope: string, reason: string): Promise<Pause> {
  return audited(db, "admin.deliveries.pauses.set", { scope, reason }, (tx) => setPause(tx, { scope, reason }, actor));
}

export async function resume({ db, print }: CliContext, scope: string) {
  await audited(db, "admin.deliveries.pauses.remove", { scope }, (tx) => removePause(tx, scope));
  print(`Resumed: ${scope}.`);
}

/** Pauses, and waits until no delivery is in flight. Returns false after the timeout. */
export async function drain(
  { db, print }: CliContext,
  scope: string,
  { reason, timeoutSeconds }: { reason?: string; timeoutSeconds: number },
): Promise<boolean> {
  // A drain of a paused scope does not replace the reason that was given.
  const earlier = reason ? null : await db.asSystem((tx) => findPause(tx, scope), { mode: "read" });
  const { pausedAt } = earlier ?? (await makePause(db, scope, reason ?? "Drained."));
  print(`Paused: ${scope}, since ${pausedAt}. Waiting up to ${timeoutSeconds} s for deliveries in flight.`);
  const interrupt = () => {
    print(staysPaused(scope));
    process.exit(130);
  };
  process.once("SIGINT", interrupt);
  const drained = await untilCalm({ db, print }, scope, timeoutSeconds);
  process.off("SIGINT", interrupt);
  if (!drained) await printInFlight({ db, print }, scope, timeoutSeconds);
  print(`${drained ? "Drained. " : ""}${staysPaused(scope)}`);
  return drained;
}

const staysPaused = (scope: string) => `It stays paused until \`operate deliveries resume ${flagOf(scope)}\`.`;

/** Waits until no delivery is in flight at every check of a whole second. Returns false after the timeout. */
async function untilCalm(
  { db, print }: Omit<CliContext, "clear">,
  scope: string,
  timeoutSeconds: number,
): Promise<boolean> {
  const end = performance.now() + timeoutSeconds * 1000;
  let printed: number | undefined;
  let calmSince: number | undefined;
  while (performance.now() < end) {
    const left = await db.asSystem((tx) => countInFlight(tx, scope), { mode: "read" });
    if (left !== printed) print(`In flight: ${left}`);
    printed = left;
    const now = performance.now();
    calmSince = left === 0 ? (calmSince ?? now) : undefined;
    if (calmSince !== undefined && now - calmSince >= calmMs) return true;
    await sleep(pollMs);
  }
  return false;
}

async function printInFlight({ db, print }: Omit<CliContext, "clear">, scope: string, timeoutSeconds: number) {
  const left = await db.asSystem((tx) => listInFlight(tx, scope), { mode: "read" });
  print(`Not drained after ${timeoutSeconds} s. In flight, with the end of the last lease:`);
  print(
    table(
      left.map(({ clientId, endpointId, inFlight, until }) => {
        return [clientId, endpointId, String(inFlight), until?.toISOString() ?? ""];
      }),
    ),
  );
  print("An expired lease belongs to a worker that is gone. The next running worker frees it.");
}

function flagOf(scope: string): string {
  if (scope === "all") return "--all";
  return scope.startsWith("wh_") ? `--endpoint ${scope}` : `--client ${scope}`;
}

type DeadOptions = { client?: string; hours: number; limit: number; json?: boolean };

export async function dead({ db, print }: CliContext, { client, hours, limit, json = false }: DeadOptions) {
  const window = { minutes: hours * 60, limit };
  const shown = client ? await deadOf(db, client, window) : await deadOfAll(db, window);
  if (json) return print(JSON.stringify(shown.rows));
  if (shown.rows.length === 0) return print(`No dead letters in the last ${hours} h.`);
  print(table(shown.lines));
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
  const { waiting, paused, inFlight, suspended, lastFiveMinutes, lastHour, oldestEndpoints } = overview;
  const backlog = (row: DeliveryOverview["waiting"]) => {
    const more = row.capped ? "+" : "";
    const since = row.due > 0 ? `, the oldest for ${duration(row.oldestDueSeconds)}` : "";
    return `${row.pending}${more} pending, ${row.due}${more} due${since}`;
  };
  const attemptsOf = ({ attempts, failures, capped }: DeliveryOverview["lastHour"]) =>
    `${attempts}${capped ? "+" : ""} attempts, ${failures} failed`;
  const facts = table([
    ["Oldest due", overview.oldestDueSeconds === 0 ? "nothing" : duration(overview.oldestDueSeconds)],
    ["Waiting", backlog(waiting)],
    ["Paused", backlog(paused)],
    ["In flight", backlog(inFlight)],
    ["Suspended", backlog(suspended)],
    ["In 5 minutes", attemptsOf(lastFiveMinutes)],
    ["In an hour", attemptsOf(lastHour)],
    ["Dead", `${overview.dead.last24Hours}${overview.dead.capped ? "+" : ""} in 24 hours`],
    ["Disabled", `${overview.endpointsDisabledLast7Days} endpoints in 7 days`],
    ["Queue", `${duration(overview.queueLagSeconds)} behind`],
  ]);
  const held = pauses.map((each) => [
    each.scope,
    `since ${each.pausedAt}`,
    `by ${each.pausedBy}`,
    `${each.inFlight} in flight`,
    each.reason,
  ]);
  const longest = oldestEndpoints.map(({ clientId, endpointId, cause, oldestDueSeconds }) => [
    clientId,
    endpointId,
    cause,
    duration(oldestDueSeconds),
  ]);
  return [
    `Deliveries at ${at}`,
    facts,
    ...(held.length > 0 ? ["Pauses", table(held)] : []),
    ...(longest.length > 0 ? ["Longest waiting", table(longest)] : []),
  ].join("\n\n");
}
