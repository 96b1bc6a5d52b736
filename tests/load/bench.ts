import { mkdir } from "node:fs/promises";
import { cpus, totalmem } from "node:os";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { benchDeliveries } from "./deliveries.ts";
import { type BenchOptions, type Ground, openGround } from "./ground.ts";
import { benchJobs } from "./jobs.ts";
import { benchRequests } from "./requests.ts";

const parts: Record<string, (ground: Ground, options: BenchOptions) => Promise<string>> = {
  requests: benchRequests,
  jobs: benchJobs,
  deliveries: benchDeliveries,
};

const usage = `npm run bench -- [${Object.keys(parts).join("|")}] [--seconds n] [--profile folder]`;

/** Everything that was started is stopped, also when somebody has had enough. */
async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { seconds: { type: "string", default: "5" }, profile: { type: "string" } },
  });
  const wanted = positionals.length > 0 ? positionals : Object.keys(parts);
  const seconds = Number(values.seconds);
  if (!(seconds > 0 && seconds <= 600) || wanted.some((name) => !Object.hasOwn(parts, name))) return refuse(usage);
  const profiles = values.profile === undefined ? null : resolve(values.profile);
  if (profiles) await mkdir(profiles, { recursive: true });

  const stops: (() => Promise<unknown>)[] = [];
  let interrupted = false;
  const stopAll = async () => {
    for (const stop of stops.splice(0).reverse()) await stop().catch((error: unknown) => console.error(error));
  };
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => {
      interrupted = true;
      process.exitCode = 130;
      stopAll();
    });
  }
  const say = (line: string) => console.error(`  ${line}`);
  try {
    for (const name of wanted) {
      const ground = await openGround(stops); // each part finds a database that no other has used
      if (name === wanted[0]) console.log(await machine(ground));
      console.log(await parts[name]!(ground, { seconds, profiles, say }));
      await stopAll();
    }
  } catch (error) {
    if (!interrupted) throw error; // else it is what the interruption broke
  } finally {
    await stopAll();
  }
}

async function machine({ owner }: Ground): Promise<string> {
  const [server] = await owner`select current_setting('server_version') as version, current_setting('fsync') as fsync`;
  const memory = `${Math.round(totalmem() / 2 ** 30)} GB`;
  const processor = `${cpus().length} x ${cpus()[0]?.model.trim() ?? "?"}`;
  return `${processor}, ${memory}; Node ${process.versions.node}; PostgreSQL ${server!.version}, fsync ${server!.fsync}\n`;
}

function refuse(sentence: string) {
  console.error(sentence);
  process.exitCode = 2;
}

await main();
