import { performance } from "node:perf_hooks";
import { clearSetApart, listSetApartSubjects } from "../routers/set-apart/service.ts";
import { clientsWithWork, leadSweep, queueLagSeconds, refill } from "../routers/webhooks/deliveries/dispatch.ts";
import { disableFailing } from "../routers/webhooks/endpoints/service.ts";
import { eachOrApart, type SystemWork } from "./runtime/set-apart.ts";
import type { JobContext, Task } from "./runtime/task.ts";

/** Disables an endpoint whose receiver is gone or only fails, unless it has recovered meanwhile. */
export const disable: Task<"webhooks.disable"> = {
  async run({ endpointId, why }, ctx) {
    const disabled = await ctx.asClient((tx) => disableFailing(tx, endpointId, why));
    if (disabled) ctx.log.error({ alert: true, endpoint_id: endpointId, reason: why }, "webhook endpoint disabled");
  },
};

const clientsPerBatch = 50;
const sweepBudgetMs = 5_000;
const sweepLoop = "deliveries.sweep";

/**
 * Admits due deliveries and frees expired slots, for every client a little: none gets more than its slots, so the longest
 * backlog delays no other client. It runs on the worker's timer, every second or two; one worker sweeps at a time. A
 * client whose deliveries cannot be swept is swept alone, after the others, until that works again.
 */
export async function sweepDeliveries({
  db,
  log,
  signal = new AbortController().signal,
}: Pick<JobContext, "db" | "log"> & { signal?: AbortSignal }) {
  const total = { clients: 0, freed: 0, admitted: 0, isLed: false, failures: 0 };
  const ctx: SystemWork = { asSystem: (work, options) => db.asSystem(work, options), log, signal };
  const sweepSome = async (clientIds: readonly string[], lagSeconds: number) => {
    const done = await db.asSystem((tx) => refill(tx, { clientIds, lagSeconds }));
    total.clients += done.clients;
    total.freed += done.freed;
    total.admitted += done.admitted;
  };
  const sweepBatch = (rows: readonly string[], lagSeconds: number) =>
    eachOrApart(ctx, {
      loop: sweepLoop,
      rows,
      subjectOf: (clientId) => ({ id: clientId, clientId }),
      work: (some) => sweepSome(some, lagSeconds),
    }).catch((error: unknown) => {
      total.failures += 1;
      log.error({ err: error, clients: rows.length }, "delivery sweep failed for some clients"); // the others continue
    });
  await db.asSystem(
    async (system) => {
      total.isLed = await leadSweep(system);
      if (!total.isLed) return;
      const lagSeconds = await queueLagSeconds(system);
      const apart = await listSetApartSubjects(system, sweepLoop, null);
      const all = rotate(await clientsWithWork(system, { lagSeconds }));
      const queue = all.filter((clientId) => !apart.includes(clientId));
      const until = performance.now() + sweepBudgetMs;
      while (queue.length > 0 && performance.now() < until)
        await sweepBatch(queue.splice(0, clientsPerBatch), lagSeconds);
      for (const clientId of apart) if (performance.now() < until) await sweepAlone(clientId, lagSeconds);
    },
    { mode: "read" },
  );
  return total;

  async function sweepAlone(clientId: string, lagSeconds: number) {
    try {
      await sweepSome([clientId], lagSeconds);
      await db.asSystem((tx) => clearSetApart(tx, sweepLoop, [clientId]));
    } catch (error) {
      log.debug({ err: error, client_id: clientId }, "delivery sweep failed for a client that is set apart");
    }
  }
}

/** Starts at a random client, so that a sweep that runs out of time does not always skip the same ones. */
function rotate<T>(all: T[]): T[] {
  const first = Math.floor(Math.random() * all.length);
  return [...all.slice(first), ...all.slice(0, first)];
}
