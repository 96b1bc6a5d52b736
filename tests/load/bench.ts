import { mkdir } from "node:fs/promises";
import { cpus, loadavg, totalmem } from "node:os";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { benchDelivered } from "./bench/delivered.ts";
import { benchDeliveries } from "./bench/deliveries.ts";
import { benchEmit } from "./bench/emit.ts";
import { type Group, tableOf } from "./bench/figures.ts";
import { benchIngress } from "./bench/ingress.ts";
import { benchBacklog, benchJobs } from "./bench/jobs.ts";
import { benchLedger } from "./bench/ledger.ts";
import { benchLists, benchReads } from "./bench/reads.ts";
import { benchAgents, benchCalls } from "./bench/writes.ts";
import { type BenchOptions, type Ground, openGround } from "./ground.ts";
import { stopAll, untilOver } from "./interruption.ts";

type Part = (ground: Ground, options: BenchOptions) => Promise<Group[]>;

/** In the order of the table. Each part starts with a fresh database. */
const parts: Record<string, Part> = {
  reads: benchReads,
  lists: benchLists,
  agents: benchAgents,
  calls: benchCalls,
  ledger: benchLedger,
  ingress: benchIngress,
  deliveries: benchDeliveries,
  emit: benchEmit,
  delivered: benchDelivered,
  jobs: benchJobs,
  backlog: benchBacklog,
};

const usage = `npm run bench -- [${Object.keys(parts).join("] [")}] [--seconds 5] [--quick] [--profile folder]`;
const quickSeconds = 1;

/** Runs the given parts, or all, and prints one table. */
async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      seconds: { type: "string" },
      quick: { type: "boolean", default: false },
      profile: { type: "string" },
    },
  });
  const { quick } = values;
  const wanted = positionals.length > 0 ? positionals : Object.keys(parts);
  const seconds = Number(values.seconds ?? (quick ? quickSeconds : 5));
  if (!(seconds > 0 && seconds <= 600) || wanted.some((name) => !Object.hasOwn(parts, name))) {
    console.error(usage);
    process.exitCode = 2;
    return;
  }
  const profiles = values.profile === undefined ? null : resolve(values.profile);
  if (profiles) await mkdir(profiles, { recursive: true });

  await untilOver(async (stops, over) => {
    const groups: Group[] = [];
    const objections: string[] = [];
    const object = (sentence: string) => objections.push(sentence);
    let title = "";
    over.addEventListener("abort", () => stopAll(stops)); // running work then fails and ends
    for (const name of wanted) {
      over.throwIfAborted();
      const began = performance.now();
      const log = (line: string) => console.error(`  ${name}: ${line}`);
      const ground = await openGround(stops);
      title ||= await machine(ground);
      try {
        const made = await parts[name]!(ground, { seconds, quick, profiles, say: log, object });
        log(`took ${Math.round((performance.now() - began) / 1000)} s`);
        console.error(`\n${tableOf(name, made)}`); // an interrupted run has printed its results
        groups.push(...made);
      } catch (error) {
        over.throwIfAborted();
        object(`${name}: ${error instanceof Error ? error.message : String(error)}`); // the other parts still run
      }
      await stopAll(stops);
    }
    console.log(tableOf(title, groups));
    for (const objection of objections) console.error(`BROKEN: ${objection}`);
    if (objections.length > 0) process.exitCode = 1;
  });
}

async function machine({ owner }: Ground): Promise<string> {
  const [server] = await owner`select current_setting('server_version') as version, current_setting('fsync') as fsync`;
  const memory = `${Math.round(totalmem() / 2 ** 30)} GB`;
  const processor = `${cpus().length} x ${cpus()[0]?.model.trim() ?? "?"}`;
  const load = `load ${loadavg()[0]!.toFixed(1)}`;
  return `${processor}, ${memory}, ${load}; Node ${process.versions.node}; PostgreSQL ${server!.version}, fsync ${server!.fsync}`;
}

await main();
