import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { initTRPC, TRPCError } from "@trpc/server";
import { and, eq, sql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/postgres-js";
import express from "express";
import postgres from "postgres";
import { createOpenApiExpressMiddleware, type OpenApiMeta } from "trpc-to-openapi";
import { agents, agentVersions } from "../../db/schema/agents.ts";
import { Agent, AgentConfig, AgentId } from "../../routers/agents/schema.ts";
import { toIso } from "../../routers/core/fields.ts";
import { answer, given } from "./child.ts";

/** The way of the books: the library's own handler, and drizzle's own transaction with the client's setting in it. */
const client = postgres(given("TENANT_URL"), { max: 10, onnotice: () => {} });
const db = drizzle(client, { casing: "snake_case" });
const clientId = given("CLIENT_ID");
const t = initTRPC.meta<OpenApiMeta>().create();

const appRouter = t.router({
  get: t.procedure
    .meta({ openapi: { method: "GET", path: "/agents/{id}" } })
    .input(AgentId)
    .output(Agent)
    .query(({ input }) =>
      db.transaction(async (tx) => {
        await tx.execute(sql`select set_config('app.client_id', ${clientId}, true)`);
        const [found] = await tx
          .select({ agent: agents, config: agentVersions.config })
          .from(agents)
          .innerJoin(
            agentVersions,
            and(
              eq(agentVersions.clientId, agents.clientId),
              eq(agentVersions.agentId, agents.id),
              eq(agentVersions.version, agents.version),
            ),
          )
          .where(eq(agents.id, input.id));
        if (!found) throw new TRPCError({ code: "NOT_FOUND" });
        const { agent, config } = found;
        const { id, name, metadata, status, statusReason, version } = agent;
        const times = { createdAt: toIso(agent.createdAt), updatedAt: toIso(agent.updatedAt) };
        return { id, name, ...AgentConfig.parse(config), metadata, status, statusReason, version, ...times };
      }),
    ),
});

const app = express();
app.use(createOpenApiExpressMiddleware({ router: appRouter, createContext: () => ({}) }));
const server = app.listen(0, "127.0.0.1");
await once(server, "listening");
answer({ port: () => (server.address() as AddressInfo).port }, () => client.end({ timeout: 1 }));
