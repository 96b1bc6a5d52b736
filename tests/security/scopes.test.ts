import { callTRPCProcedure, initTRPC } from "@trpc/server";
import { beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import type { Tx } from "../../db/client.ts";
import { clients } from "../../db/schema/clients.ts";
import { operationsOf, type RestOperation } from "../../edge/rest/operations.ts";
import { requireComplete } from "../../routers/core/complete-metadata.ts";
import type { Context } from "../../routers/core/context.ts";
import { operatorCommand, operatorQuery, query, router, serviceQuery } from "../../routers/core/procedures.ts";
import { type Access, type Meta, rest } from "../../routers/core/rest-metadata.ts";
import { scopes, systemScopes } from "../../routers/core/scopes.ts";
import { appRouter } from "../../routers/index.ts";
import { startTestApp, type TestResponse } from "../support/app.ts";

const everything = [...scopes, ...systemScopes];
const serviceToken = (name: string) => `${name}-0123456789abcdef0123456789abcdef`;
/** Services by the scopes of their tokens: all, one, and an empty list. */
const services = { all: "", read: ":internal:read", write: ":internal:write", none: ":" };
const h = await startTestApp({
  env: {
    RATE_LIMIT_MULTIPLIER: "100",
    INTERNAL_SERVICE_TOKENS: Object.entries(services)
      .map(([name, limit]) => `${name}:${serviceToken(name)}${limit}`)
      .join(),
  },
});

type Claims = Record<string, unknown>;
type Transport = (operation: RestOperation, key: string) => Promise<TestResponse>;

/** The input is always invalid: a caller without access is refused before validation, one with access gets input_invalid. */
const transports: Record<string, Transport> = {
  REST: ({ rest: { method, path }, takesBody }, key) =>
    h.send(method, path.replace(/\{\w+\}/g, "x"), takesBody ? {} : undefined, { key }),
  tRPC: ({ procedure, type }, key) =>
    type === "query" ? h.query(procedure, { surprise: 1 }, { key }) : h.mutate(procedure, { surprise: 1 }, { key }),
};
const operations = operationsOf(appRouter);
const withAccess = (...wanted: Access[]) =>
  operations
    .filter(({ meta }) => wanted.includes(meta.access!))
    .map((operation) => [operation.procedure, operation] as const);

/** Claims of a token that do not grant this scope. */
function narrowed(scope: string): [what: string, claims: Claims][] {
  const [resource, verb] = scope.split(":") as [string, string];
  return [
    ["an empty list of permissions", { permissions: [] }],
    ["an empty scope", { scope: "" }],
    ["a scope of spaces", { scope: "  " }],
    ["every other scope", { scope: everything.filter((other) => other !== scope).join(" ") }],
    ["a misspelt scope", { scope: `${resource}:${verb}s`, permissions: [`${resource}.${verb}`, resource, verb] }],
    ["the scope in capitals", { permissions: [scope.toUpperCase(), ` ${scope}`] }],
    ["stars", { scope: `* *:* *:${verb} ${resource}:*` }],
    ["OpenID Connect scopes and no permissions", { scope: "openid profile email", permissions: [] }],
    ["OpenID Connect scopes and an unknown one", { scope: "openid api" }],
    ["the scope and no permissions", { scope, permissions: [] }],
    ["the permission and an empty scope", { scope: "", permissions: [scope] }],
    ["the permission and a narrower scope", { scope: "openid none:such", permissions: [scope] }],
  ];
}

/** Tokens are created once: the test makes thousands of requests. */
const tokens = new Map<string, Promise<string>>();
function tokenOf(sub: string, clients: string[], claims: Claims): Promise<string> {
  const name = JSON.stringify([sub, claims]);
  const known = tokens.get(name) ?? h.identity.token({ sub, clients, ...claims });
  tokens.set(name, known);
  return known;
}
const asMember = (claims: Claims) => tokenOf(h.ada.subject, [h.ada.clientId], claims);
const asOperator = (claims: Claims) => tokenOf("auth0|operator", [], claims);

const codeOf = ({ body }: TestResponse): string => (body?.error?.data ?? body?.error)?.code ?? "none";

/** The response of each transport, for each set of claims. */
async function outcomes(operation: RestOperation, as: (claims: Claims) => Promise<string>, given: [string, Claims][]) {
  const found: string[] = [];
  for (const [what, claims] of given) {
    const key = await as(claims);
    for (const [name, ask] of Object.entries(transports)) {
      const response = await ask(operation, key);
      if (response.status !== 403 || codeOf(response) !== "scope_missing") {
        found.push(`${name}, ${what}: ${response.status} ${codeOf(response)}`);
      }
    }
  }
  return found;
}

beforeAll(async () => {
  await h.get("/auth/me", { key: await h.operator() });
});

describe("a token with scopes has only these scopes", () => {
  test("every procedure is tested", () => {
    const walked = [...withAccess("tenant", "operator", "service"), ...withAccess("self")];
    expect(walked.map(([name]) => name).toSorted()).toEqual(operations.map(({ procedure }) => procedure).toSorted());
    expect(withAccess("self").map(([name]) => name)).toEqual(["auth.me", "auth.clients", "clients.invitations.accept"]);
  });

  test.each(withAccess("tenant"))("%s refuses a member whose token lacks its scope", async (_, operation) => {
    expect(await outcomes(operation, asMember, narrowed(operation.meta.scope!))).toEqual([]);
  });

  test.each(withAccess("operator"))("%s refuses an operator whose token lacks its scope", async (_, operation) => {
    expect(await outcomes(operation, asOperator, narrowed(operation.meta.scope!))).toEqual([]);
  });

  test.each(withAccess("service"))("%s refuses a service whose token lacks its scope", async (_, operation) => {
    const other = operation.meta.scope === "internal:read" ? "write" : "read";
    const given = ["none", other].map((name): [string, Claims] => [name, { name }]);
    expect(await outcomes(operation, async ({ name }) => serviceToken(name as string), given)).toEqual([]);
  });

  test.each(withAccess("tenant", "operator", "service"))(
    "%s accepts a caller with only its scope",
    async (_, operation) => {
      const { access, scope } = operation.meta;
      const own: Claims[] = [{ scope }, { permissions: [scope] }, { scope: `openid ${scope}`, permissions: [scope] }];
      const keys =
        access === "service"
          ? [serviceToken(scope!.split(":")[1]!), serviceToken("all")]
          : await Promise.all(own.map(access === "tenant" ? asMember : asOperator));
      for (const key of keys)
        for (const ask of Object.values(transports)) expect((await ask(operation, key)).status).not.toBe(403);
    },
  );

  test("the event stream refuses it too", async () => {
    for (const [, claims] of narrowed("events:read")) {
      const headers = { accept: "text/event-stream" };
      const response = await h.query("events.stream", {}, { key: await asMember(claims), headers });
      expect(JSON.stringify(response.body)).toContain("scope_missing");
    }
  });

  test("a token without scopes of this API is limited only by the role", async () => {
    for (const claims of [{}, { scope: "openid profile email" }, { scope: "openid offline_access" }]) {
      expect(await h.get("/agents", { key: await asMember(claims) })).toMatchObject({ status: 200 });
      expect(await h.get("/admin/clients", { key: await asOperator(claims) })).toMatchObject({ status: 200 });
    }
  });
});

describe("a caller cannot grant more than the token's scopes", () => {
  const key = (wanted: string[]) => ({ name: "Wide", scopes: wanted });

  test("a member's token creates no key beyond its scopes, whatever the role", async () => {
    const ask = { key: await asMember({ scope: "api_keys:write agents:read" }) };
    expect(await h.post("/auth/api-keys", key(["agents:read"]), ask)).toMatchObject({ status: 201 });
    for (const wanted of [["agents:write"], ["agents:read", "members:write"], ["api_keys:read"]]) {
      for (const response of [
        await h.post("/auth/api-keys", key(wanted), ask),
        await h.mutate("apiKeys.create", key(wanted), ask),
      ])
        expect([response.status, codeOf(response)]).toEqual([403, "scope_missing"]);
    }
    const rotated = await h.post(`/auth/api-keys/${h.ada.keyId}/rotate`, { graceSeconds: 60 }, ask);
    expect([rotated.status, codeOf(rotated)]).toEqual([403, "scope_missing"]);
  });

  test("a member's token invites to no role with more scopes than it has", async () => {
    const ask = { key: await asMember({ scope: "members:write agents:read" }) };
    for (const role of ["owner", "admin", "member", "viewer"]) {
      const response = await h.post("/clients/current/invitations", { email: "x@example.com", role }, ask);
      expect([response.status, codeOf(response)]).toEqual([403, "scope_missing"]);
    }
  });
});

const Clients = z.array(z.string());
let ran = 0;
const allClients = async ({ ctx }: { ctx: { tx: Tx } }) => {
  ran += 1;
  return (await ctx.tx.select({ id: clients.id }).from(clients)).map(({ id }) => id);
};

describe("a builder declares who may call", () => {
  const probes = router({
    clients: operatorQuery
      .meta(rest("GET", "/admin/probe", "platform:read", "Probe"))
      .output(Clients)
      .query(allClients),
    forget: operatorCommand
      .meta(rest("POST", "/admin/probe", "platform:write", "Probe"))
      .output(Clients)
      .mutation(allClients),
  });
  const internal = router({
    service: serviceQuery
      .meta(rest("GET", "/internal/probe", "internal:read", "Probe"))
      .output(Clients)
      .query(allClients),
  });

  test("a procedure that declares nothing is closed to other callers", async () => {
    const p = await startTestApp({ router: probes, internal });
    const strangers = [p.ada.key, await p.token(p.ada), await p.token(p.ada, { scope: "platform:read" })];
    for (const key of strangers) {
      for (const response of [await p.get("/admin/probe", { key }), await p.query("clients", {}, { key })])
        expect([response.status, codeOf(response)]).toEqual([403, "platform_required"]);
      for (const response of [await p.post("/admin/probe", {}, { key }), await p.mutate("forget", {}, { key })])
        expect([response.status, codeOf(response)]).toEqual([403, "platform_required"]);
      const onRest = await p.get("/internal/probe", { key });
      expect([onRest.status, codeOf(onRest)]).toEqual([403, "scope_missing"]);
      const onTrpc = await p.query("service", {}, { key });
      expect([onTrpc.status, codeOf(onTrpc)]).toEqual([404, "route_not_found"]);
    }
    expect(ran).toBe(0);
    expect(await p.get("/admin/probe", { key: await p.operator() })).toMatchObject({ status: 200 });
    expect(ran).toBe(1);
  });

  const meta = rest("GET", "/admin/probe", "platform:read", "Probe");
  const without = (...names: (keyof Meta)[]) =>
    Object.fromEntries(Object.entries(meta).filter(([name]) => !names.includes(name as keyof Meta))) as Meta;
  const bare = initTRPC.context<Context>().meta<Meta>().create().procedure;
  const incomplete = {
    "without metadata": operatorQuery.query(allClients),
    "without a scope": operatorQuery.meta(without("scope")).query(allClients),
    "with no scope at all": operatorQuery.meta({ ...meta, scope: null }).query(allClients),
    "with a scope that is none": operatorQuery.meta({ ...meta, scope: "platform:raed" as never }).query(allClients),
    "with a tenant's scope": operatorQuery.meta({ ...meta, scope: "agents:read" }).query(allClients),
    "without a limit": operatorQuery.meta(without("limit")).query(allClients),
    "with another access than its builder's": operatorQuery.meta({ ...meta, access: "tenant" }).query(allClients),
    "of a tenant that declares operator access": query.meta({ ...meta, access: "operator" }).query(allClients),
    "without faults": operatorQuery.meta(without("errors")).query(allClients),
    "not created by a builder of ours": bare.meta({ ...meta, access: "operator" }).query(() => ["all"]),
  };

  test.each(Object.entries(incomplete))("a procedure %s stops the start and is named", (_, probe) => {
    expect(() => requireComplete(router({ deep: router({ probe }) }))).toThrow(
      "The procedure deep.probe is incomplete",
    );
    expect(() => requireComplete(probes)).not.toThrow();
    expect(() => requireComplete(appRouter)).not.toThrow();
  });

  const ours = Object.entries(incomplete).filter(([what]) => what !== "not created by a builder of ours");
  test.each(ours)("a procedure %s is refused and named when it is called, and never runs", async (_, probe) => {
    const before = ran;
    const call = callTRPCProcedure({
      ...{ router: router({ deep: router({ probe }) }), path: "deep.probe", type: "query" as const, batchIndex: 0 },
      ...{ ctx: { authenticate: () => Promise.reject(new Error("authenticate was called")) }, signal: undefined },
      getRawInput: async () => undefined,
    });
    await expect(call).rejects.toThrow("The procedure deep.probe is incomplete");
    expect(ran).toBe(before);
  });
});
