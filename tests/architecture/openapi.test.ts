import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { expect, test } from "vitest";
import { openApiDocument } from "../../edge/openapi/document.ts";
import { tags as tagTexts } from "../../edge/openapi/openapi-text.ts";
import { isInternal, operationsOf } from "../../edge/rest/operations.ts";
import { providerCommandOf } from "../../jobs/provider-commands.ts";
import { appRouter } from "../../routers/index.ts";
import { openDeps } from "../../server/deps.ts";
import { readEnv } from "../../server/env.ts";
import { openHttp, version } from "../../server/http.ts";
import { findingsIn } from "../openapi/document-rules.ts";
import { lintWithRedocly } from "../openapi/redocly.ts";

const key = Buffer.alloc(32, 1).toString("base64");
const publicUrl = "https://api.patchbay.test";
const document = openApiDocument(appRouter, { baseUrl: `${publicUrl}/api/v1`, version });
const procedures = operationsOf(appRouter).filter((operation) => !isInternal(operation));
const operations = Object.values(document.paths).flatMap((methods) => Object.values(methods));

test("every procedure is in the document", () => {
  expect(operations).toHaveLength(procedures.length);
});

test("every provider command, and every operation that returns 202, describes what a 202 means", () => {
  const isProviderCommand = (procedure: string) => {
    try {
      return providerCommandOf(procedure) !== undefined;
    } catch {
      return false;
    }
  };
  const later = procedures.filter(({ procedure, meta }) => isProviderCommand(procedure) || meta.status === 202);
  expect(later.length).toBeGreaterThan(12);
  expect(later.filter(({ meta }) => !meta.accepted).map(({ procedure }) => procedure)).toEqual([]);
  const idle = procedures.filter((operation) => operation.meta.accepted && !later.includes(operation));
  expect(idle.map(({ procedure }) => procedure)).toEqual([]);
});

test("the introduction names only resources that exist", () => {
  const { tags = [], info } = document;
  const missing = Object.keys(tagTexts).filter((name) => !tags.some((tag) => tag.name === name));
  expect(missing).toEqual([]);
  const paths = Object.keys(document.paths).join(" ");
  const text = `${info.description} ${tags.map(({ description }) => description).join(" ")}`;
  const promised = ["campaign", "suppression", "analytics", "usage", "purchase", "price"].filter((word) =>
    text.includes(word),
  );
  expect(promised.filter((word) => !paths.includes(word))).toEqual([]);
});

test("every format is one that validators support", () => {
  const known = ["date-time", "date", "email", "uri", "uuid", "ipv4", "ipv6", "binary"];
  const named = Array.from(JSON.stringify(document).matchAll(/"format":"([^"]+)"/g), ([, format]) => format!);
  expect([...new Set(named)].filter((format) => !known.includes(format))).toEqual([]);
  const { properties } = document.components.schemas.TelephonyUpdateRequest!;
  const range = new RegExp(properties!.allowedCidrRanges!.items!.pattern!);
  expect(["192.0.2.0/24", "192.0.2.0", "192.0.2.0/33"].map((text) => range.test(text))).toEqual([true, false, false]);
});

test("every operation and every parameter has a description that is not its name", () => {
  const letters = (text = "") => text.toLowerCase().replace(/[^a-z]/g, "");
  const undescribed = procedures.filter(({ rest }) => {
    const own = letters(rest.description);
    return own.length < 20 || own === letters(rest.summary);
  });
  expect(undescribed.map(({ rest }) => `${rest.method} ${rest.path}`)).toEqual([]);
  const parameters = operations.flatMap(({ operationId, parameters }) =>
    parameters.flatMap((each) => ("$ref" in each ? [] : [{ ...each, operationId }])),
  );
  expect(parameters.length).toBeGreaterThan(100);
  const named = parameters.filter(({ name, description }) => ["", letters(name)].includes(letters(description)));
  expect(named.map(({ operationId, name }) => `${operationId}: ${name}`)).toEqual([]);
});

test("redocly reports nothing", { timeout: 180_000 }, async () => {
  const { code, output } = await lintWithRedocly(JSON.stringify(document));
  expect(code, output).toBe(0);
  expect(output).not.toMatch(/warning/i);
});

test("our own rules report nothing: operation ids, tags, examples, unused components", () => {
  expect(findingsIn(document)).toEqual([]);
});

test("the application serves the document and the reference page", async () => {
  // No database: nothing in this test uses one.
  const deps = openDeps(
    readEnv({
      LOG_LEVEL: "silent",
      PUBLIC_URL: publicUrl,
      DATABASE_URL: "postgres://none@127.0.0.1:1/none",
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
