import { setTimeout as sleep } from "node:timers/promises";
import { pino } from "pino";
import { openDatabase } from "../../db/client.ts";
import type { Beating } from "../../jobs/runtime/heartbeat.ts";
import { startWorkers } from "../../jobs/runtime/worker.ts";
import type { Providers } from "../../routers/ports/index.ts";
import { tracing, type Urls } from "./jobs-database.ts";

export type ChildOptions = Urls & {
  name: string;
  beating: Beating;
  rescueEveryMs: number;
  concurrency: number;
  /** How long each job takes; null: until the parent sends "go". `poison` jobs kill the process. */
  workMs: number | null;
};
/** Sent to the parent. */
export type ChildNews = { event: "started"; pools: string[] } | { event: "begun" | "worked"; id: string };

const options = JSON.parse(process.argv[2]!) as ChildOptions;
const emit = (news: ChildNews) => process.send!(news);
const db = openDatabase({ tenantUrl: options.tenantUrl, systemUrl: options.systemUrl, size: 6 });
const log = pino({ level: "silent" });

const received = Promise.withResolvers<void>();
const work = async (id: string) => {
  if (id.startsWith("poison")) process.kill(process.pid, "SIGKILL");
  emit({ event: "begun", id });
  await (options.workMs === null ? received.promise : sleep(options.workMs));
  emit({ event: "worked", id });
};
const workers = await startWorkers({
  workerUrl: options.workerUrl,
  db,
  providers: {} as Providers,
  log,
  tasks: { "webhooks.deliver": tracing(options.name, work), "calls.sweep": { run: async () => {} } },
  concurrency: { prompt: options.concurrency, deliveries: options.concurrency, slow: 1 },
  heartbeat: options.beating,
  rescueEveryMs: options.rescueEveryMs,
  pollIntervalMs: 300,
});
emit({ event: "started", pools: workers.pools });
process.on("message", async (message) => {
  if (message === "go") received.resolve();
  if (message === "pools") emit({ event: "started", pools: workers.pools });
  if (message !== "stop") return;
  await workers.stop();
  await db.close();
  process.exit(0);
});
