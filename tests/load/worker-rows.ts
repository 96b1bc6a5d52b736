import { run } from "graphile-worker";
import postgres from "postgres";
import { Agent, request } from "undici";
import { newId } from "../../db/ids.ts";
import { given, serve } from "./child.ts";
import { queueSettings } from "./queue-settings.ts";

type Row = { id: string; status: number; latency_ms: number; response: string };

/** The queue library with a minimal delivery: the body is in the job, is posted, and a row is written. */
const dispatcher = new Agent({ pipelining: 1 });
const { pgPool, options } = queueSettings();
const sql = postgres(given("DATABASE_URL"), { max: 2, onnotice: () => {} });
const gatherMs = 3;
const most = 200;
const line: { row: Row; resolve: () => void; reject: (error: unknown) => void }[] = [];
let underWay = 0;

/** Concurrent rows share one commit, two commits at a time. */
const keep = (row: Row) =>
  new Promise<void>((resolve, reject) => {
    line.push({ row, resolve, reject });
    if (underWay < 2) void write();
  });

async function write() {
  underWay += 1;
  while (line.length > 0) {
    if (line.length < most) await new Promise((resolve) => setTimeout(resolve, gatherMs));
    const batch = line.splice(0, most);
    const rows = batch.map(({ row }) => row);
    if (rows.length === 0) break;
    try {
      await sql`
        insert into attempts (id, status, latency_ms, response)
        select id, status, latency_ms, response from json_to_recordset(${JSON.stringify(rows)}::text::json)
          as given(id text, status int, latency_ms int, response text)`;
      for (const { resolve } of batch) resolve();
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
  }
  underWay -= 1;
}

const post = async (payload: unknown) => {
  const { url, body } = payload as { url: string; body: string };
  const began = performance.now();
  const headers = { "content-type": "application/json" };
  const { statusCode, body: answered } = await request(url, { dispatcher, method: "POST", headers, body });
  const response = await answered.text();
  await keep({ id: newId("attempt"), status: statusCode, latency_ms: Math.round(performance.now() - began), response });
};

const runner = await run({ ...options, taskList: { "webhooks.deliver": post } });

serve({}, async () => {
  await runner.stop();
  await Promise.all([pgPool.end(), sql.end({ timeout: 1 }), dispatcher.close()]);
});
