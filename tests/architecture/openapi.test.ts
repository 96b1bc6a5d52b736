import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { beforeAll, expect, test } from "vitest";
import { openApiDocument } from "../../edge/openapi/document.ts";
import { tags as words } from "../../edge/openapi/openapi-text.ts";
import { isInternal, operationsOf } from "../../edge/rest/operations.ts";
import { providerCommandOf } from "../../jobs/provider-commands.ts";
import { appRouter } from "../../routers/index.ts";
import { openDeps } from "../../server/deps.ts";
import { readEnv } from "../../server/env.ts";
import { openHttp, version } from "../../server/http.ts";

const root = resolve(import.meta.dirname, "../..");
const key = Buffer.alloc(32, 1).toString("base64");
const publicUrl = "https://api.patchbay.test";
const document = openApiDocument(appRouter, { baseUrl: `${publicUrl}/api/v1`, version });
const doors = operationsOf(appRouter).filter((door) => !isInternal(door));
const operations = Object.values(document.paths).flatMap((methods) => Object.values(methods));

let file = "";
beforeAll(async () => {
  const folder = await mkdtemp(join(tmpdir(), "openapi-"));
  file = join(folder, "openapi.json");
  await writeFile(file, JSON.stringify(document));
  return () => rm(folder, { recursive: true });
});

test("every procedure stands in the document", () => {
  expect(operations).toHaveLength(doors.length);
});

test("says of every outbound, and of every door that answers 202, what a 202 means there", () => {
  const isOutbound = (procedure: string) => {
    try {
      return providerCommandOf(procedure) !== undefined;
    } catch {
      return false;
    }
  };
  const later = doors.filter(({ procedure, meta }) => isOutbound(procedure) || meta.status === 202);
  expect(later.length).toBeGreaterThan(12);
  expect(later.filter(({ meta }) => !meta.accepted).map(({ procedure }) => procedure)).toEqual([]);
  const idle = doors.filter((door) => door.meta.accepted && !later.includes(door));
  expect(idle.map(({ procedure }) => procedure)).toEqual([]);
});

test("promises on its title page nothing that it has not", () => {
  const { tags = [], info } = document;
  const missing = Object.keys(words).filter((name) => !tags.some((tag) => tag.name === name));
  expect(missing).toEqual([]);
  const paths = Object.keys(document.paths).join(" ");
  const text = `${info.description} ${tags.map(({ description }) => description).join(" ")}`;
  const promised = ["campaign", "suppression", "analytics", "usage", "purchase", "price"].filter((word) =>
    text.includes(word),
  );
  expect(promised.filter((word) => !paths.includes(word))).toEqual([]);
});

test("names no format that validators do not know", () => {
  const known = ["date-time", "date", "email", "uri", "uuid", "ipv4", "ipv6", "binary"];
  const named = Array.from(JSON.stringify(document).matchAll(/"format":"([^"]+)"/g), ([, format]) => format!);
  expect([...new Set(named)].filter((format) => !known.includes(format))).toEqual([]);
  const { properties } = document.components.schemas.TelephonyUpdateRequest!;
  const range = new RegExp(properties!.allowedCidrRanges!.items!.pattern!);
  expect(["192.0.2.0/24", "192.0.2.0", "192.0.2.0/33"].map((text) => range.test(text))).toEqual([true, false, false]);
});

test("describes every operation in words of its own, and no parameter by its name alone", () => {
  const letters = (text = "") => text.toLowerCase().replace(/[^a-z]/g, "");
  const silent = doors.filter(({ rest }) => {
    const own = letters(rest.description);
    return own.length < 20 || own === letters(rest.summary);
  });
  expect(silent.map(({ rest }) => `${rest.method} ${rest.path}`)).toEqual([]);
  const parameters = operations.flatMap(({ operationId, parameters }) =>
    parameters.flatMap((each) => ("$ref" in each ? [] : [{ ...each, operationId }])),
  );
  expect(parameters.length).toBeGreaterThan(100);
  const named = parameters.filter(({ name, description }) => ["", letters(name)].includes(letters(description)));
  expect(named.map(({ operationId, name }) => `${operationId}: ${name}`)).toEqual([]);
});

test("redocly finds nothing to say about it", { timeout: 180_000 }, async () => {
  const { code, output } = await lint("redocly", "--config", "redocly.yaml");
  expect(code, output).toBe(0);
  expect(output).not.toMatch(/warning/i);
});

test("spectral finds nothing to say about it", { timeout: 180_000 }, async () => {
  const { code, output } = await lint("spectral", "--ruleset", ".spectral.yaml", "--fail-severity", "warn");
  expect(code, output).toBe(0);
});

test("the application serves it, and the page that shows it", async () => {
  // Nothing here asks the database: it is not there.
  const deps = openDeps(
    readEnv({
      LOG_LEVEL: "silent",
      PUBLIC_URL: publicUrl,
      DATABASE_URL: "postgres://nobody@127.0.0.1:1/none",
      APP_SECRET: key,
      VAULT_MASTER_KEY: key,
      AUTH_ISSUER: "https://issuer.test/",
      AUTH_AUDIENCE: "test",
      AUTH_CLIENTS_CLAIM: "https://issuer.test/clients",
      ULTRAVOX_API_KEY: "key",
      ULTRAVOX_WEBHOOK_SECRETS: "secret",
    }),
  );
  const server = openHttp(deps).listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  try {
    const served = await fetch(`${url}/openapi.json`);
    expect(served.headers.get("content-type")).toContain("application/json");
    expect(await served.json()).toEqual(JSON.parse(JSON.stringify(document)));
    expect((await fetch(`${url}/docs`)).status).toBe(200);
    expect((await fetch(`${url}/docs/scalar.js`)).headers.get("content-type")).toContain("text/javascript");
  } finally {
    server.closeAllConnections();
    server.close();
    await deps.close();
  }
});

function lint(binary: string, ...args: string[]): Promise<{ code: number; output: string }> {
  const env = { ...process.env, REDOCLY_TELEMETRY: "off", REDOCLY_SUPPRESS_UPDATE_NOTICE: "true" };
  const run = promisify(execFile)(join(root, "node_modules/.bin", binary), ["lint", file, ...args], { cwd: root, env });
  return run.then(
    ({ stdout, stderr }) => ({ code: 0, output: stdout + stderr }),
    (error: { code: number; stdout: string; stderr: string }) => ({
      code: error.code,
      output: error.stdout + error.stderr,
    }),
  );
}
