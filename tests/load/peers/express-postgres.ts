import { once } from "node:events";
import type { AddressInfo } from "node:net";
import express, { type Response } from "express";
import postgres from "postgres";
import { given, serve } from "../child.ts";
import { statements } from "./statements.ts";

const sql = postgres(given("DATABASE_URL"), { max: 10, onnotice: () => {} });
const { agent, agents, webhook, call, calls, createAgent, createCall } = statements(sql, given("CLIENT_ID"));
const app = express();
app.use(express.json());

const show = (res: Response, found: unknown) => {
  if (found === null) res.status(404).end();
  else res.json({ data: found });
};
app.get("/agents/:id", async (req, res) => show(res, await agent(req.params.id)));
app.get("/agents", async (req, res) => show(res, await agents(Number(req.query.limit))));
app.get("/webhooks/:id", async (req, res) => show(res, await webhook(req.params.id)));
app.get("/calls/:id", async (req, res) => show(res, await call(req.params.id)));
app.get("/calls", async (req, res) => show(res, await calls(Number(req.query.limit))));
app.post("/agents", async (req, res) => show(res.status(201), await createAgent(req.body)));
app.post("/calls", async (req, res) => show(res.status(201), await createCall(req.body)));

const server = app.listen(0, "127.0.0.1");
await once(server, "listening");
serve({ port: () => (server.address() as AddressInfo).port }, () => sql.end({ timeout: 1 }));
