import postgres from "postgres";
import { emit } from "../../db/events.ts";
import { newId } from "../../db/ids.ts";
import { openDeps } from "../../server/deps.ts";
import { readEnv } from "../../server/env.ts";
import { given, serve } from "./child.ts";
import { callNumbered, newSubject } from "./customers.ts";

export type Emitting = { clientIds: string[]; seconds: number };

const connections = Number(given("DATABASE_POOL_SIZE"));
const one = given("EMITTER") === "ours" ? ofOurs() : ofBare();

/** Emits events, each about a new subject in its own transaction, one per connection in parallel. */
async function run({ clientIds, seconds }: Emitting) {
  const began = performance.now();
  const until = began + seconds * 1000;
  let count = 0;
  const loop = async () => {
    while (performance.now() < until) {
      const n = count++;
      await one.status(clientIds[n % clientIds.length]!, n);
    }
  };
  await Promise.all(Array.from({ length: connections }, loop));
  return { count, seconds: (performance.now() - began) / 1000 };
}

serve({ run }, () => one.close());

function ofOurs() {
  const deps = openDeps(readEnv(process.env));
  return {
    close: () => deps.close(),
    async status(clientId: string, n: number) {
      const subjectId = newSubject();
      await deps.db.asClient({ clientId }, (tx) => emit(tx, "call.created", subjectId, callNumbered(subjectId, n)));
    },
  };
}

/** The same three rows in one statement: the subject's counter, the event, its place among those that wait for their fan-out. */
function ofBare() {
  const sql = postgres(given("DATABASE_URL"), { max: connections, onnotice: () => {} });
  return {
    close: () => sql.end({ timeout: 1 }),
    async status(clientId: string, n: number) {
      const subjectId = newSubject();
      await sql`
        with counted as (
          insert into event_counters (client_id, subject_id, sequence) values (${clientId}, ${subjectId}, 1)
          on conflict (client_id, subject_id) do update set sequence = event_counters.sequence + 1 returning sequence
        ), stated as (
          insert into events (client_id, id, type, subject_type, subject_id, sequence, data)
          select ${clientId}, ${newId("event")}, 'call.created', 'call', ${subjectId}, sequence,
            ${JSON.stringify(callNumbered(subjectId, n))}::text::jsonb
          from counted returning id, created_at
        )
        insert into event_fan_outs (client_id, event_id, event_created_at) select ${clientId}, id, created_at from stated`;
    },
  };
}
