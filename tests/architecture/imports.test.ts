import { globSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { describe, expect, test } from "vitest";

const root = resolve(import.meta.dirname, "../..");
const floors = ["server", "edge", "jobs", "routers", "db"] as const;
type Floor = (typeof floors)[number];
type Import = { file: string; target: string; typeOnly: boolean };

/** What a floor may import from, beside itself. Jobs may take less of the routers: see below. */
const below: Record<Floor, readonly Floor[]> = {
  server: ["edge", "jobs", "routers", "db"],
  edge: ["routers", "db"],
  jobs: ["routers", "db"],
  routers: ["db"],
  db: [],
};
const topOfRoutersForJobs = ["routers/core/errors.ts", "routers/ports/index.ts", "routers/core/limits.ts"];

const files = globSync(`{${floors.join(",")}}/**/*.ts`, { cwd: root }).sort();
const sources = new Map(files.map((file) => [file, readFileSync(join(root, file), "utf8")]));
const imports = files.flatMap(importsOf);
const isDev = (file: string) => file.startsWith("dev/");
const floorOf = (file: string) => file.split("/")[0] as Floor;

/** Our own files that a file names: in imports, in exports from, and in `import()`, types included. */
function importsOf(file: string): Import[] {
  const found = sources
    .get(file)!
    .matchAll(/\b(?:import|export)(\s+type)?\b(?:[^;'"()]*?\bfrom)?\s*\(?\s*["'](\.[^"']+)["']/g);
  return [...found].map(([, type, path]) => ({
    file,
    target: relative(root, resolve(root, dirname(file), path!)),
    typeOnly: type !== undefined,
  }));
}

const arrow = ({ file, target }: Import) => `${file} -> ${target}`;

describe("the arrows", () => {
  test("every import was found, and leads to a file", () => {
    expect(files.length).toBeGreaterThan(100);
    expect(imports.length).toBeGreaterThan(300);
    expect(imports.filter(({ target }) => !sources.has(target) && !target.endsWith(".json")).map(arrow)).toEqual([]);
  });

  test("no floor imports from one above it", () => {
    const up = imports.filter(({ file, target }) => {
      const [from, to] = [floorOf(file), floorOf(target)];
      return from !== to && !below[from].includes(to);
    });
    expect(up.map(arrow)).toEqual([]);
  });

  test("jobs know verbs and words of the domain, not its doors", () => {
    const doors = imports.filter(({ file, target }) => {
      if (floorOf(file) !== "jobs" || floorOf(target) !== "routers") return false;
      const isTop = dirname(target) === "routers";
      return isTop ? !topOfRoutersForJobs.includes(target) : target.endsWith("/index.ts");
    });
    expect(doors.map(arrow)).toEqual([]);
  });

  test("the laptop's world is imported by nothing outside it", () => {
    expect(imports.filter(({ file, target }) => isDev(target) && !isDev(file)).map(arrow)).toEqual([]);
  });

  // `import type` is gone when the code runs: what it ties together can still be loaded, read and tested apart.
  test("there is no circle", () => {
    const ways = new Map(files.map((file) => [file, [] as string[]]));
    for (const { file, target, typeOnly } of imports) if (!typeOnly) ways.get(file)?.push(target);
    expect(circles(ways)).toEqual([]);
  });
});

/** Depth first; a file met again while it is still open closes a circle. */
function circles(ways: Map<string, string[]>): string[] {
  const found: string[] = [];
  const done = new Set<string>();
  const visit = (file: string, path: string[]) => {
    if (path.includes(file)) return void found.push([...path.slice(path.indexOf(file)), file].join(" -> "));
    if (done.has(file)) return;
    for (const target of ways.get(file) ?? []) visit(target, [...path, file]);
    done.add(file);
  };
  for (const file of ways.keys()) visit(file, []);
  return found;
}

describe("who may", () => {
  const using = (pattern: RegExp) => files.filter((file) => pattern.test(sources.get(file)!));

  test("read the environment: the entry points, and the laptop's world", () => {
    const readers = using(/\bprocess\.env\b|\benv\b[^;]*from "node:process"|from "(?:node:)?process"/);
    const allowed = ["server/entry.ts", "server/migrate.ts", "server/operate.ts"];
    expect(readers.filter((file) => !allowed.includes(file) && !isDev(file))).toEqual([]);
  });

  test("see the rows of every client: these, and for these reasons", () => {
    const house: Record<string, string> = {
      "db/client.ts": "makes it",
      "edge/ingress/ingress-writer.ts": "a provider's message is stored before it is known whose it is",
      "jobs/runtime/set-apart.ts": "a row that a loop over all clients could not process is set apart",
      "jobs/audit-chain.ts": "the audit rows of all clients are chained",
      "jobs/bus.ts": "the bus is told of the events of all clients",
      "jobs/ingress-reprocess.ts": "providers' messages are applied once more, whoever's they are",
      "jobs/ingress.ts": "finds out to whom a provider's message belongs",
      "jobs/runtime/loops.ts": "the periodic loops of the system note that they succeeded",
      "jobs/maintenance.ts": "partitions and expired keys are kept for all",
      "jobs/runtime/rescue.ts": "keeps the exhausted jobs of all for people to look at",
      "jobs/retention.ts": "which calls were set apart is the operators' to see",
      "jobs/runtime/suspensions.ts": "every worker keeps the list of suspended clients",
      "jobs/runtime/sweep.ts": "a sweep takes what is due for all clients",
      "jobs/runtime/task.ts": "gives it to jobs of the house, and buries those that gave up",
      "jobs/telephony.ts": "one provider account has the rules of all clients who share it",
      "jobs/uploads.ts": "the cleaner looks for stale uploads of all clients",
      "jobs/vault.ts": "data keys of all clients are wrapped anew when the master key changes",
      "jobs/webhooks.ts": "the sweep looks for due deliveries of all clients",
      "routers/telephony/rules.ts":
        "a number of an account that clients share is one client's alone: who wants it must know that it is free",
      "routers/core/procedures.ts":
        "the builders of the operator's doors and of the services', and whose it is that a service names",
      "server/auth.ts": "a key or a token says who calls only when it has been found",
      "server/health.ts": "how the whole installation stands",
      "server/operate/deliveries.ts": "the operator's command looks over all clients, and pauses for any of them",
      "server/operate/set-apart.ts": "the operator's command shows what loops go on without",
      "server/operate/numbers.ts": "the operator's command gives numbers of the shared account to clients",
      "server/adapters/client-accounts.ts": "a provider's webhook names an account before it is known whose it is",
    };
    expect(using(/\basHouse\b/).filter((file) => !isDev(file))).toEqual(Object.keys(house));
  });

  test("open the database: the composition root, the operator's command, and the laptop's world", () => {
    const openers = using(/\bopenDatabase\(/).filter((file) => file !== "db/client.ts");
    expect(openers).toEqual(["server/deps.ts", "server/operate/cli-context.ts"]);
  });
});
