import { drizzle } from "drizzle-orm/postgres-js";
import postgres from "postgres";
import { Agent, request } from "undici";
import { newId } from "../../db/ids.ts";
import { deliveryAttempts } from "../../db/schema/events.ts";
import { answer, given } from "./child.ts";

export type Posts = { url: string; bodies: string[]; concurrency: number; clientId: string; recorded: boolean };

/** What is left of a delivery without everything that makes it one: post, read, next. `recorded`: a row after each. */
const dispatcher = new Agent({ pipelining: 1 });
const sql = postgres(given("DATABASE_URL"), { max: 10, onnotice: () => {} });
const db = drizzle(sql, { casing: "snake_case" });

async function post({ url, bodies, concurrency, clientId, recorded }: Posts) {
  let at = 0;
  const line = async () => {
    for (let body = bodies[at++]; body !== undefined; body = bodies[at++]) {
      const began = performance.now();
      const headers = { "content-type": "application/json" };
      const reply = await request(url, { dispatcher, method: "POST", headers, body });
      const response = await reply.body.text();
      if (reply.statusCode !== 200) throw new Error(`the sink answered ${reply.statusCode}`);
      if (!recorded) continue;
      const what = { status: reply.statusCode, latencyMs: Math.round(performance.now() - began), response };
      const whose = { clientId, deliveryId: newId("delivery"), endpointId: newId("endpoint"), attempt: 1 };
      await db.insert(deliveryAttempts).values({ id: newId("attempt"), ...whose, ...what });
    }
  };
  await Promise.all(Array.from({ length: concurrency }, line));
}

answer({ post }, async () => {
  await dispatcher.close();
  await sql.end({ timeout: 1 });
});
