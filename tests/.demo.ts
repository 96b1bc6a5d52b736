import express from "express";
import { initTRPC } from "@trpc/server";
import { z } from "zod";
import { writeFileSync } from "node:fs";
import { docsRouter } from "../edge/docs.ts";
import { openApiJson } from "../edge/openapi.ts";
import { restRouter } from "../edge/rest.ts";
import { rest, type Meta } from "../routers/rest.ts";
const t = initTRPC.context<any>().meta<Meta>().create();
const Agent = z.object({ id: z.string().meta({examples:["agent_01"]}), name: z.string(), createdAt: z.iso.datetime(), n: z.int().nullable() }).meta({ id: "Agent" });
const router = t.router({ agents: t.router({
  list: t.procedure.meta(rest("GET", "/agents", "agents:read", "List agents")).input(z.strictObject({ limit: z.int().default(20), metadata: z.record(z.string(), z.string()).optional() })).output(z.object({ items: z.array(Agent), nextCursor: z.string().nullable(), hasMore: z.boolean() })).query(() => ({ items: [], nextCursor: null, hasMore: false })),
  get: t.procedure.meta(rest("GET", "/agents/{id}", "agents:read", "Get an agent", { faults: ["agent_not_found"] })).input(z.strictObject({ id: z.string() })).output(z.object({ id: z.string() })).query(({ input }) => ({ id: input.id })),
  create: t.procedure.meta(rest("POST", "/agents", "agents:write", "Create an agent", { faults: ["agent_busy", "provider_unavailable"] })).input(z.strictObject({ name: z.string() })).output(z.object({ name: z.string() })).mutation(({ input }) => input),
}) });
const app = express().disable("x-powered-by");
app.get("/bare/:id", (req, res) => { res.json({ data: { id: req.params.id }, meta: { requestId: "r" } }); });
app.use("/bare2", express.json(), (req, res) => { res.json({ data: req.body, meta: { requestId: "r" } }); });
app.use(docsRouter({ scalarFile: new URL("../node_modules/@scalar/api-reference/dist/browser/standalone.js", import.meta.url).pathname }));
app.get("/openapi.json", (req, res) => { res.type("json").send(openApiJson(router, { baseUrl: "http://localhost:3999/api/v1", version: "1" })); });
let n = 0;
app.use("/api/v1", restRouter({ router, createContext: ({ reply }) => ({ requestId: "req_" + ++n, reply }) }));
writeFileSync("/tmp/openapi.json", openApiJson(router, { baseUrl: "http://localhost:3999/api/v1", version: "1" }));
process.on("SIGUSR2", () => { const { user, system } = process.cpuUsage(); console.log("cpu", user + system); });
app.listen(3999, "127.0.0.1", () => console.log("up", process.pid));
