import { Logger, run } from "graphile-worker";
import pg from "pg";
import postgres from "postgres";
import { Agent, request } from "undici";
import { newId } from "../../db/ids.ts";
import { createBatcher } from "../../jobs/runtime/batcher.ts";
import { answer, given } from "./child.ts";

type Row = { id: string; status: number; latency_ms: number; response: string };

/** The queue's library with the least that a delivery can be: the body lies in the job, is posted, and a row is kept. */
const dispatcher = new Agent({ pipelining: 1 });
const pgPool = new pg.Pool({ connectionString: given("DATABASE_URL"), max: 8 });
pgPool.on("error", () => {});
pgPool.on("connect", (client) => client.on("error", () => {}));
const sql = postgres(given("DATABASE_URL"), { max: 2, onnotice: () => {} });
const keep = createBatcher({
  ...{ waitMs: 3, most: 200, atOnce: 2 },
  work: async (rows: Row[]) => {
    await sql`
      insert into attempts (id, status, latency_ms, response)
      select id, status, latency_ms, response from json_to_recordset(${JSON.stringify(rows)}::text::json)
        as given(id text, status int, latency_ms int, response text)`;
    return rows.map(() => undefined);
  },
});

const post = async (payload: unknown) => {
  const { url, body } = payload as { url: string; body: string };
  const began = performance.now();
  const headers = { "content-type": "application/json" };
  const { statusCode, body: answered } = await request(url, { dispatcher, method: "POST", headers, body });
  const response = await answered.text();
  await keep({ id: newId("attempt"), status: statusCode, latency_ms: Math.round(performance.now() - began), response });
};

const runner = await run({
  pgPool,
  taskList: { "webhooks.deliver": post },
  concurrency: 150,
  noHandleSignals: true,
  logger: new Logger(() => () => {}),
  preset: { worker: { completeJobBatchDelay: 0, failJobBatchDelay: 0, localQueue: { size: 500, ttl: 5_000 } } },
});

answer({}, async () => {
  await runner.stop();
  await Promise.all([pgPool.end(), sql.end({ timeout: 1 }), dispatcher.close()]);
});
