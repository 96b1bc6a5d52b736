import { describe, expect, test } from "vitest";
import { folderCycles, imports } from "./layout.ts";
import { type Import, type Layer, layerOf, sourceFiles, textOf } from "./sources.ts";

/** What a layer may import, beside itself. */
const allowed: Record<Layer, readonly Layer[]> = {
  server: ["edge", "jobs", "routers", "db"],
  edge: ["routers", "db"],
  jobs: ["routers", "db"],
  routers: ["db"],
  db: [],
  dev: ["server", "edge", "jobs", "routers", "db"],
};
const known = new Set(sourceFiles);
const arrow = ({ file, target }: Import) => `${file} -> ${target}`;
const isDev = (file: string) => layerOf(file) === "dev";

describe("imports", () => {
  test("are all found, and each resolves to a file", () => {
    expect(sourceFiles.length).toBeGreaterThan(100);
    expect(imports.length).toBeGreaterThan(300);
    expect(imports.filter(({ target }) => !known.has(target) && !target.endsWith(".json")).map(arrow)).toEqual([]);
  });

  test("never point from a layer to one above it, types included", () => {
    const upward = imports.filter(({ file, target }) => {
      const [from, to] = [layerOf(file), layerOf(target)];
      return from !== to && !allowed[from].includes(to);
    });
    expect(upward.map(arrow)).toEqual([]);
  });

  test("form no cycle between folders, types included", () => {
    expect(folderCycles()).toEqual([]);
  });

  test("of jobs name services and schemas, never a module's router", () => {
    const routers = imports.filter(
      ({ file, target }) => layerOf(file) === "jobs" && /^routers\/.*\brouter\.ts$/.test(target),
    );
    expect(routers.map(arrow)).toEqual([]);
  });

  test("of the shared core name no module: modules depend on the core, not the reverse", () => {
    const inward = imports.filter(
      ({ file, target }) => /^routers\/(core|ports)\//.test(file) && !/^(routers\/(core|ports)|db)\//.test(target),
    );
    expect(inward.map(arrow)).toEqual([]);
  });

  test("of the local world stay within it: no simulator reaches the build", () => {
    expect(imports.filter(({ file, target }) => isDev(target) && !isDev(file)).map(arrow)).toEqual([]);
  });

  test("this test sees a cycle that only types close", () => {
    const cycle = [
      { file: "routers/a/service.ts", target: "routers/b/schema.ts" },
      { file: "routers/b/schema.ts", target: "routers/a/schema.ts" },
    ];
    expect(folderCycles(cycle)).toEqual([
      "routers/a/service.ts -> routers/b/schema.ts\n  routers/b/schema.ts -> routers/a/schema.ts",
    ]);
  });
});

describe("access", () => {
  const using = (pattern: RegExp) => sourceFiles.filter((file) => pattern.test(textOf(file)) && !isDev(file));

  test("to the environment: entry points only", () => {
    const readers = using(/\bprocess\.env\b|\benv\b[^;]*from "node:process"|from "(?:node:)?process"/);
    const entryPoints = ["server/entry.ts", "server/migrate.ts", "server/operate/main.ts"];
    expect(readers.filter((file) => !entryPoints.includes(file))).toEqual([]);
  });

  test("to the rows of all clients: only these files, for these reasons", () => {
    expect(using(/\basSystem\b/)).toEqual(Object.keys(crossTenant).sort());
  });

  test("to a new database handle: the composition root and the operator's command", () => {
    const openers = using(/\bopenDatabase\(/).filter((file) => file !== "db/client.ts");
    expect(openers).toEqual(["server/deps.ts", "server/operate/cli-context.ts"]);
  });
});

const crossTenant: Record<string, string> = {
  "db/client.ts": "defines it",
  "edge/ingress/ingress-writer.ts": "a provider's message is stored before its client is known",
  "jobs/audit-chain.ts": "one job chains the audit rows of all clients",
  "jobs/bus.ts": "the event bus receives the events of all clients",
  "jobs/calls.ts": "erases a call's copies in tables that clients cannot change",
  "jobs/delivery-batchers.ts": "one statement records deliveries of many clients",
  "jobs/fan-out.ts": "writes the deliveries of new events of all clients",
  "jobs/ingress-reprocess.ts": "an operator applies stored provider messages again, for any client",
  "jobs/ingress.ts": "finds the client of a provider's message",
  "jobs/maintenance.ts": "partitions and expired keys belong to all clients",
  "jobs/retention.ts": "finds clients with data past its retention",
  "jobs/runtime/loops.ts": "heartbeats of the loops belong to the installation",
  "jobs/runtime/rescue.ts": "moves exhausted jobs of all clients to the dead jobs",
  "jobs/runtime/set-apart.ts": "records the rows of all clients that a loop could not process",
  "jobs/runtime/suspensions.ts": "each worker keeps the list of suspended clients",
  "jobs/runtime/sweep.ts": "a sweep finds the due rows of all clients",
  "jobs/runtime/task.ts": "gives it to system jobs, and records dead jobs",
  "jobs/telephony.ts": "one provider account has the routes of all clients that share it",
  "jobs/uploads.ts": "removes stale uploads of all clients",
  "jobs/vault.ts": "wraps the data keys of all clients again when the master key changes",
  "jobs/webhooks.ts": "batches the deliveries of all clients",
  "routers/core/system-procedures.ts": "the builders for operators and services, and the owner of a named resource",
  "routers/telephony/rules.ts": "a number on a shared account belongs to one client: creating a route checks all",
  "server/adapters/client-accounts.ts": "a provider's webhook names an account before its client is known",
  "server/auth-api-keys.ts": "an API key names its client only once it is found",
  "server/auth.ts": "a key or token identifies its client only once it is found",
  "server/health.ts": "reports on the whole installation",
  "server/operate/audited.ts": "the operator's command works across clients",
  "server/operate/deliveries.ts": "the operator's command works across clients",
  "server/operate/numbers.ts": "the operator's command works across clients",
  "server/operate/set-apart.ts": "the operator's command works across clients",
};
