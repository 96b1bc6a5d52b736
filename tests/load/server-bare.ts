import { once } from "node:events";
import type { AddressInfo } from "node:net";
import express from "express";
import postgres from "postgres";
import { answer, given } from "./child.ts";

/** The least that gives this answer: Express, and one prepared select by primary key. Nobody is asked who he is. */
const sql = postgres(given("DATABASE_URL"), { max: 10, onnotice: () => {} });
const clientId = given("CLIENT_ID");
const app = express();

app.get("/agents/:id", async (req, res) => {
  const [row] = await sql`
    select a.id, a.name, a.state, a.state_reason, a.version, v.config, a.created_at, a.updated_at
    from agents a
    join agent_versions v on v.client_id = a.client_id and v.agent_id = a.id and v.version = a.version
    where a.client_id = ${clientId} and a.id = ${req.params.id}`;
  if (!row) return void res.status(404).end();
  const { config, ...agent } = row;
  res.json({ data: { ...agent, ...config } });
});

const server = app.listen(0, "127.0.0.1");
await once(server, "listening");
answer({ port: () => (server.address() as AddressInfo).port }, () => sql.end({ timeout: 1 }));
