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
import { type Answer, startTestApp } from "../support/app.ts";

const everything = [...scopes, ...systemScopes];
const serviceToken = (name: string) => `${name}-0123456789abcdef0123456789abcdef`;
/** Services by what their tokens carry: everything, one scope, and a list that is there and empty. */
const services = { all: "", read: ":internal:read", write: ":internal:write", none: ":" };
const h = await startTestApp({
  env: {
    INTERNAL_SERVICE_TOKENS: Object.entries(services)
      .map(([name, limit]) => `${name}:${serviceToken(name)}${limit}`)
      .join(),
  },
});

type Claims = Record<string, unknown>;
type Transport = (door: RestOperation, key: string) => Promise<Answer>;

/** The input is never good: who may not call is refused before it is looked at, and who may is told so. */
const transports: Record<string, Transport> = {
  REST: ({ rest: { method, path }, takesBody }, key) =>
    h.send(method, path.replace(/\{\w+\}/g, "x"), takesBody ? {} : undefined, { key }),
  tRPC: ({ procedure, type }, key) =>
    type === "query" ? h.query(procedure, { surprise: 1 }, { key }) : h.mutate(procedure, { surprise: 1 }, { key }),
};
const doors = operationsOf(appRouter);
const withAccess = (...wanted: Access[]) =>
  doors.filter(({ meta }) => wanted.includes(meta.access!)).map((door) => [door.procedure, door] as const);

/** Claims that a token can carry and that do not grant this scope. */
function narrowed(scope: string): [what: string, claims: Claims][] {
  const [noun, verb] = scope.split(":") as [string, string];
  return [
    ["an empty list of permissions", { permissions: [] }],
    ["an empty scope", { scope: "" }],
    ["a scope of spaces", { scope: "  " }],
    ["every other scope", { scope: everything.filter((other) => other !== scope).join(" ") }],
    ["a misspelt scope", { scope: `${noun}:${verb}s`, permissions: [`${noun}.${verb}`, noun, verb] }],
    ["the scope in capitals", { permissions: [scope.toUpperCase(), ` ${scope}`] }],
    ["stars", { scope: `* *:* *:${verb} ${noun}:*` }],
    ["words of OpenID Connect and no permissions", { scope: "openid profile email", permissions: [] }],
    ["the scope and no permissions", { scope, permissions: [] }],
    ["the permission and an empty scope", { scope: "", permissions: [scope] }],
    ["the permission and a narrower scope", { scope: "openid none:such", permissions: [scope] }],
    ["words of OpenID Connect and an unknown one", { scope: "openid api" }],
  ];
}

/** Tokens are made once: a walk asks thousands of times. */
const tokens = new Map<string, Promise<string>>();
function tokenOf(sub: string, clients: string[], claims: Claims): Promise<string> {
  const name = JSON.stringify([sub, claims]);
  const known = tokens.get(name) ?? h.identity.token({ sub, clients, ...claims });
  tokens.set(name, known);
  return known;
}
const asMember = (claims: Claims) => tokenOf(h.ada.subject, [h.ada.clientId], claims);
const asOperator = (claims: Claims) => tokenOf("auth0|operator", [], claims);

const codeOf = ({ body }: Answer): string => (body?.error?.data ?? body?.error)?.code ?? "none";

/** What each transport answers, for each set of claims. */
async function outcomes(door: RestOperation, as: (claims: Claims) => Promise<string>, given: [string, Claims][]) {
  const found: string[] = [];
  for (const [what, claims] of given) {
    const key = await as(claims);
    for (const [name, ask] of Object.entries(transports)) {
      const answer = await ask(door, key);
      if (answer.status !== 403 || codeOf(answer) !== "scope_missing") {
        found.push(`${name}, ${what}: ${answer.status} ${codeOf(answer)}`);
      }
    }
  }
  return found;
}

beforeAll(async () => {
  await h.get("/auth/me", { key: await h.operator() });
});

describe("a token that names scopes has these and no others", () => {
  test("the walk meets every procedure", () => {
    const walked = [...withAccess("tenant", "operator", "service"), ...withAccess("self")];
    expect(walked.map(([name]) => name).toSorted()).toEqual(doors.map(({ procedure }) => procedure).toSorted());
    expect(withAccess("self").map(([name]) => name)).toEqual(["auth.me", "auth.clients", "clients.invitations.accept"]);
  });

  test.each(withAccess("tenant"))("%s refuses a member whose token does not carry its scope", async (_, door) => {
    expect(await outcomes(door, asMember, narrowed(door.meta.scope!))).toEqual([]);
  });

  test.each(withAccess("operator"))("%s refuses an operator whose token does not carry its scope", async (_, door) => {
    expect(await outcomes(door, asOperator, narrowed(door.meta.scope!))).toEqual([]);
  });

  test.each(withAccess("service"))("%s refuses a service whose token does not carry its scope", async (_, door) => {
    const other = door.meta.scope === "internal:read" ? "write" : "read";
    const given = ["none", other].map((name): [string, Claims] => [name, { name }]);
    expect(await outcomes(door, async ({ name }) => serviceToken(name as string), given)).toEqual([]);
  });

  test.each(withAccess("tenant", "operator", "service"))("%s lets in who has its scope alone", async (_, door) => {
    const { access, scope } = door.meta;
    const own: Claims[] = [{ scope }, { permissions: [scope] }, { scope: `openid ${scope}`, permissions: [scope] }];
    const keys =
      access === "service"
        ? [serviceToken(scope!.split(":")[1]!), serviceToken("all")]
        : await Promise.all(own.map(access === "tenant" ? asMember : asOperator));
    for (const key of keys)
      for (const ask of Object.values(transports)) expect((await ask(door, key)).status).not.toBe(403);
  });

  test("the stream of events refuses it too", async () => {
    for (const [, claims] of narrowed("events:read")) {
      const headers = { accept: "text/event-stream" };
      const answer = await h.query("events.stream", {}, { key: await asMember(claims), headers });
      expect(JSON.stringify(answer.body)).toContain("scope_missing");
    }
  });

  test("a token that says nothing of this API is limited by the role alone", async () => {
    for (const claims of [{}, { scope: "openid profile email" }, { scope: "openid offline_access" }]) {
      expect(await h.get("/agents", { key: await asMember(claims) })).toMatchObject({ status: 200 });
      expect(await h.get("/admin/clients", { key: await asOperator(claims) })).toMatchObject({ status: 200 });
    }
  });
});

describe("nobody hands on more than the token carries", () => {
  const key = (wanted: string[]) => ({ name: "Wide", scopes: wanted });

  test("a member's token that may make keys makes none beyond its own scopes, whatever the role", async () => {
    const ask = { key: await asMember({ scope: "api_keys:write agents:read" }) };
    expect(await h.post("/auth/api-keys", key(["agents:read"]), ask)).toMatchObject({ status: 201 });
    for (const wanted of [["agents:write"], ["agents:read", "members:write"], ["api_keys:read"]]) {
      for (const answer of [
        await h.post("/auth/api-keys", key(wanted), ask),
        await h.mutate("apiKeys.create", key(wanted), ask),
      ])
        expect([answer.status, codeOf(answer)]).toEqual([403, "scope_missing"]);
    }
    const rotated = await h.post(`/auth/api-keys/${h.ada.keyId}/rotate`, { graceSeconds: 60 }, ask);
    expect([rotated.status, codeOf(rotated)]).toEqual([403, "scope_missing"]);
  });

  test("a member's token that may invite invites to no role that may do more than it", async () => {
    const ask = { key: await asMember({ scope: "members:write agents:read" }) };
    for (const role of ["owner", "admin", "member", "viewer"]) {
      const answer = await h.post("/clients/current/invitations", { email: "x@example.com", role }, ask);
      expect([answer.status, codeOf(answer)]).toEqual([403, "scope_missing"]);
    }
  });
});

const Clients = z.array(z.string());
let ran = 0;
const allClients = async ({ ctx }: { ctx: { tx: Tx } }) => {
  ran += 1;
  return (await ctx.tx.select({ id: clients.id }).from(clients)).map(({ id }) => id);
};

describe("a builder statuses who may call", () => {
  const probes = router({
    clients: operatorQuery
      .meta(rest("GET", "/admin/probe", "platform:read", "Probe"))
      .output(Clients)
      .query(allClients),
    forget: operatorCommand
      .meta(rest("POST", "/admin/probe", "platform:write", "Probe"))
      .output(Clients)
      .mutation(allClients),
    service: serviceQuery
      .meta(rest("GET", "/internal/probe", "internal:read", "Probe"))
      .output(Clients)
      .query(allClients),
  });

  test("so a procedure that says nothing of it is open to nobody else", async () => {
    const p = await startTestApp({ router: probes });
    const strangers = [p.ada.key, await p.token(p.ada), await p.token(p.ada, { scope: "platform:read" })];
    for (const key of strangers) {
      for (const answer of [await p.get("/admin/probe", { key }), await p.query("clients", {}, { key })])
        expect([answer.status, codeOf(answer)]).toEqual([403, "platform_required"]);
      for (const answer of [await p.post("/admin/probe", {}, { key }), await p.mutate("forget", {}, { key })])
        expect([answer.status, codeOf(answer)]).toEqual([403, "platform_required"]);
      for (const answer of [await p.get("/internal/probe", { key }), await p.query("service", {}, { key })])
        expect([answer.status, codeOf(answer)]).toEqual([403, "scope_missing"]);
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
    "of a tenant that statuses it is an operator's": query.meta({ ...meta, access: "operator" }).query(allClients),
    "without faults": operatorQuery.meta(without("faults")).query(allClients),
    "that no builder of ours made": bare.meta({ ...meta, access: "operator" }).query(() => ["all"]),
  };

  test.each(Object.entries(incomplete))("a procedure %s stops the start, by its name", (_, probe) => {
    expect(() => requireComplete(router({ deep: router({ probe }) }))).toThrow(
      "The procedure deep.probe is incomplete",
    );
    expect(() => requireComplete(probes)).not.toThrow();
    expect(() => requireComplete(appRouter)).not.toThrow();
  });

  const ours = Object.entries(incomplete).filter(([what]) => what !== "that no builder of ours made");
  test.each(ours)("a procedure %s is refused when it is called, by its name, and never runs", async (_, probe) => {
    const before = ran;
    const call = callTRPCProcedure({
      ...{ router: router({ deep: router({ probe }) }), path: "deep.probe", type: "query" as const, batchIndex: 0 },
      ...{ ctx: { authenticate: () => Promise.reject(new Error("asked who calls")) }, signal: undefined },
      getRawInput: async () => undefined,
    });
    await expect(call).rejects.toThrow("The procedure deep.probe is incomplete");
    expect(ran).toBe(before);
  });
});
