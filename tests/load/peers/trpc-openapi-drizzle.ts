import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { initTRPC, TRPCError } from "@trpc/server";
import express from "express";
import { createOpenApiExpressMiddleware, type OpenApiMeta } from "trpc-to-openapi";
import { z } from "zod";
import { AgentConfig } from "../../../routers/agents/config.ts";
import { given, serve } from "../child.ts";
import { tables } from "./tables.ts";

/** The library's handler and drizzle's transaction, with schemas of the same fields as ours. */
const text = z.string().nullable();
const time = z.date().nullable();
const whole = z.int().nullable();
const metadata = z.record(z.string(), z.string());

const Agent = z.object({
  ...{ id: z.string(), name: z.string(), ...AgentConfig.shape, metadata, status: z.string(), statusReason: text },
  ...{ version: z.int(), createdAt: z.date(), updatedAt: z.date() },
});
const Webhook = z.object({
  ...{ id: z.string(), url: z.string(), description: text, eventTypes: z.array(z.string()), status: z.string() },
  ...{ payload: z.string(), signing: z.string(), publicKey: text, headerNames: z.array(z.string()) },
  ...{ ratePerSecond: whole, disabledCode: text, disabledAt: time, missedSince: time, missedUntil: time },
  ...{ consecutiveFailures: z.int(), failingSince: time, lastSuccessAt: time, lastFailureAt: time },
  ...{ createdAt: z.date(), updatedAt: z.date() },
});
const Call = z.object({
  ...{ id: z.string(), agentId: z.string(), agentVersion: z.int(), direction: z.string(), carrier: z.string() },
  ...{ to: text, from: text, status: z.string(), outcome: text, outcomeFinal: z.boolean(), failureReason: text },
  ...{ endReason: text, variables: z.record(z.string(), z.unknown()), metadata, maxDurationSeconds: z.int() },
  ...{ joinTimeoutSeconds: z.int(), recordingEnabled: z.boolean(), joinUrl: text, heldMicros: whole.optional() },
  ...{ costMicros: whole, billedSeconds: whole, durationSeconds: whole, summary: text, transcriptStatus: z.string() },
  ...{ recordingStatus: z.string(), output: z.record(z.string(), z.unknown()).nullable(), outputStatus: z.string() },
  ...{ outputProblems: z.array(z.unknown()).nullable(), createdAt: z.date(), joinedAt: time, endedAt: time },
  erasedAt: time,
});
const data = <T extends z.ZodType>(shape: T) => z.object({ data: shape });
const ById = z.object({ id: z.string() });

const known = tables(given("TENANT_URL"), given("CLIENT_ID"));
const t = initTRPC.meta<OpenApiMeta>().create();
const at = (method: "GET" | "POST", path: `/${string}`) => t.procedure.meta({ openapi: { method, path } });

async function show<T>(found: Promise<T | null>): Promise<{ data: T }> {
  const row = await found;
  if (row === null) throw new TRPCError({ code: "NOT_FOUND" });
  return { data: row };
}

const appRouter = t.router({
  getAgent: at("GET", "/agents/{id}")
    .input(ById)
    .output(data(Agent))
    .query(({ input }) => show(known.agent(input.id)) as Promise<never>),
  listAgents: at("GET", "/agents")
    .input(z.object({ limit: z.coerce.number().int() }))
    .output(data(z.array(Agent)))
    .query(({ input }) => show(known.agents(input.limit)) as Promise<never>),
  getWebhook: at("GET", "/webhooks/{id}")
    .input(ById)
    .output(data(Webhook))
    .query(({ input }) => show(known.webhook(input.id))),
  getCall: at("GET", "/calls/{id}")
    .input(ById)
    .output(data(Call))
    .query(({ input }) => show(known.call(input.id))),
  listCalls: at("GET", "/calls")
    .input(z.object({ limit: z.coerce.number().int() }))
    .output(data(z.array(Call)))
    .query(({ input }) => show(known.calls(input.limit))),
  createAgent: at("POST", "/agents")
    .input(z.object({ name: z.string(), ...AgentConfig.shape, metadata: metadata.default({}) }))
    .output(data(Agent))
    .mutation(({ input }) => show(known.createAgent(input)) as Promise<never>),
  createCall: at("POST", "/calls")
    .input(z.object({ agentId: z.string(), medium: z.object({ type: z.string() }), metadata: metadata.default({}) }))
    .output(data(Call))
    .mutation(({ input }) => show(known.createCall(input))),
});

const app = express();
/** Its handler returns 200 for a create. */
app.use((req, res, next) => {
  if (req.method === "POST") res.status(201);
  next();
});
app.use(
  createOpenApiExpressMiddleware({
    router: appRouter,
    createContext: () => ({}),
    responseMeta: ({ type, errors }) => (type === "mutation" && errors.length === 0 ? { status: 201 } : {}),
  }),
);
const server = app.listen(0, "127.0.0.1");
await once(server, "listening");
serve({ port: () => (server.address() as AddressInfo).port }, () => known.close());
