import type { AddressInfo } from "node:net";
import fastify, { type FastifyReply } from "fastify";
import postgres from "postgres";
import { given, serve } from "../child.ts";
import { statements } from "./statements.ts";

type ById = { Params: { id: string } };
type Listed = { Querystring: { limit: string } };
type NewAgent = { Body: { name: string; metadata?: Record<string, string> } };
type NewCall = { Body: { agentId: string; metadata?: Record<string, string> } };

const sql = postgres(given("DATABASE_URL"), { max: 10, onnotice: () => {} });
const { agent, agents, webhook, call, calls, createAgent, createCall } = statements(sql, given("CLIENT_ID"));
const app = fastify();

const show = (reply: FastifyReply, found: unknown) =>
  found === null ? reply.code(404).send() : reply.send({ data: found });
app.get<ById>("/agents/:id", async (req, reply) => show(reply, await agent(req.params.id)));
app.get<Listed>("/agents", async (req, reply) => show(reply, await agents(Number(req.query.limit))));
app.get<ById>("/webhooks/:id", async (req, reply) => show(reply, await webhook(req.params.id)));
app.get<ById>("/calls/:id", async (req, reply) => show(reply, await call(req.params.id)));
app.get<Listed>("/calls", async (req, reply) => show(reply, await calls(Number(req.query.limit))));
app.post<NewAgent>("/agents", async (req, reply) => show(reply.code(201), await createAgent(req.body)));
app.post<NewCall>("/calls", async (req, reply) => show(reply.code(201), await createCall(req.body)));

await app.listen({ port: 0, host: "127.0.0.1" });
const port = (app.server.address() as AddressInfo).port;
serve({ port: () => port }, async () => {
  await app.close();
  await sql.end({ timeout: 1 });
});
