import { setTimeout as sleep } from "node:timers/promises";
import pino from "pino";
import postgres from "postgres";
import { openDatabase } from "../../db/client.ts";
import { emit } from "../../db/events.ts";
import { newId } from "../../db/ids.ts";
import { deliverWithin } from "../../jobs/deliveries.ts";
import { fanOutAll } from "../../jobs/fan-out.ts";
import type { JobContext } from "../../jobs/runtime/task.ts";
import { disable, sweepDeliveries } from "../../jobs/webhooks.ts";
import type { Providers } from "../../routers/ports/index.ts";
import type { Vault } from "../../routers/ports/vault.ts";
import type { WebhookSender } from "../../routers/ports/webhook-sender.ts";
import { createEndpoint } from "../../routers/webhooks/endpoints/service.ts";
import { localVault } from "../../server/adapters/vault-local.ts";
import { webhookSender } from "../../server/adapters/webhook-sender.ts";
import { cloneDatabase } from "./database.ts";
import { type Answering, openReceiver } from "./receiver.ts";

export const status =
  (code: number, headers: Record<string, string> = {}): Answering =>
  (response) =>
    response.writeHead(code, headers).end(`status ${code}`);

const log = pino({ level: "silent" });

/** A separate database, a webhook receiver, and clients whose jobs come from the real queue. */
export async function openDeliveryGround() {
  const database = await cloneDatabase();
  const db = openDatabase({ ...database.roles, size: 20 });
  const owner = postgres(database.url, { max: 4, onnotice: () => {} });
  const vault = localVault({ db, masterKey: Buffer.alloc(32, 7) });
  const sender = webhookSender({ allowPrivate: true });
  const receiver = await openReceiver();

  /** A client for one test. Its jobs come from the real queue and run here. */
  async function tenant(
    given: {
      vault?: Vault;
      sender?: WebhookSender;
      deadlineMs?: number;
      random?: () => number;
      takesForMs?: number;
    } = {},
  ) {
    const clientId = newId("client");
    await owner`insert into clients (id, name) values (${clientId}, 'a client')`;
    const keyId = newId("apiKey");
    await owner`insert into api_keys (client_id, id, name, prefix, hash, scopes, created_by)
      values (${clientId}, ${keyId}, 'a key', 'pb_live_', ${keyId}, '{webhooks:write}', ${newId("user")})`;
    const { deadlineMs = 30_000, random = () => 0, takesForMs = 10_000 } = given;
    const deliver = deliverWithin({ deadlineMs, random, takesForMs });
    const asides: Promise<unknown>[] = [];
    const ctx: JobContext = {
      jobId: "1",
      attempt: 0,
      lostRuns: 0,
      clientId,
      requestId: null,
      log,
      db,
      providers: { vault: given.vault ?? vault, webhooks: given.sender ?? sender } as Providers,
      asClient: (work, options) => db.asClient({ clientId }, work, options),
      asSystem: (work, options) => db.asSystem(work, options),
      fence: { check() {} },
      inBackground: (work) => void asides.push(work.catch(() => {})),
      signal: new AbortController().signal,
      pool: { slots: 400, draining: new AbortController().signal },
    };
    const asClient = ctx.asClient;
    const path = (name: string) => `/${clientId}/${name}`;

    async function take(limit: number) {
      const rows = await owner<{ task: string; payload: { body: never } }[]>`
        with taken as (
          delete from graphile_worker._private_jobs where id in (
            select id from graphile_worker._private_jobs where payload->>'clientId' = ${clientId} and run_at <= clock_timestamp()
            order by run_at, id limit ${limit} for update skip locked)
          returning task_id, payload, run_at, id
        )
        select t.identifier as task, taken.payload from taken join graphile_worker._private_tasks t on t.id = task_id
        order by run_at, taken.id`;
      return [...rows];
    }
    const tasks = { "webhooks.deliver": deliver, "webhooks.disable": disable };
    /** Also waits for background work that the job does not wait for. */
    const run = async ({ task, payload }: { task: string; payload: { body: never } }) => {
      await tasks[task as keyof typeof tasks].run(payload.body, ctx);
      await Promise.all(asides.splice(0));
    };

    return {
      clientId,
      ctx,
      deliver,
      asClient,
      path,
      take,
      run,
      async endpoint(name: string, eventTypes: string[] = ["*"]) {
        const ring = await vault.keys(clientId, "webhook_secret");
        const input = { url: receiver.url + path(name), description: null, eventTypes };
        const made = await asClient((tx) => createEndpoint(tx, input, keyId, ring, { allowPrivate: true }));
        return { ...made, secret: made.secret! };
      },
      /** Emits `times` events, each in its own transaction. */
      async say(times = 1, type: "agent.created" | "agent.updated" = "agent.created") {
        for (let i = 0; i < times; i++) {
          const id = newId("agent");
          await asClient((tx) => emit(tx, type, id, { id, name: `Agent ${i} “ü”`, status: "active", version: 1 }));
        }
      },
      /** As a worker does in its loop, for all clients. */
      fanOut: () => fanOutAll(ctx),
      /** Fans out and runs due jobs until none is left, with the given concurrency. */
      async work(concurrency = 10) {
        const running = new Set<Promise<void>>();
        for (;;) {
          const idle = running.size === 0; // read before the query: a job that ends meanwhile may have queued more
          await fanOutAll(ctx);
          const free = concurrency - running.size;
          const jobs = free > 0 ? await take(free) : [];
          for (const job of jobs) {
            const done: Promise<void> = run(job).finally(() => running.delete(done));
            running.add(done);
          }
          if (idle && jobs.length === 0) return;
          if (jobs.length === 0) await Promise.race([...running, sleep(5)]);
        }
      },
      rows: () => owner`select * from deliveries where client_id = ${clientId} order by id`,
      async row() {
        const [row] = await owner`select * from deliveries where client_id = ${clientId} order by id limit 1`;
        return row!;
      },
      attempts: () => owner`select * from delivery_attempts where client_id = ${clientId} order by id`,
      inFlight: async () => {
        const rows = await owner<{ endpoint_id: string; n: number }[]>`
          select endpoint_id, count(*)::int as n from deliveries
          where client_id = ${clientId} and admitted_until is not null group by endpoint_id`;
        return { most: Math.max(0, ...rows.map(({ n }) => n)), all: rows.reduce((sum, { n }) => sum + n, 0) };
      },
      makeDue: () =>
        owner`update deliveries set next_attempt_at = now() where client_id = ${clientId} and status = 'pending'`,
      sweep: () => sweepDeliveries({ db, log }),
    };
  }

  return {
    ...{ database, db, owner, vault, sender, receiver, tenant },
    async close() {
      await receiver.close();
      await sender.close();
      await db.close();
      await owner.end();
      await database.drop();
    },
  };
}

export type DeliveryGround = Awaited<ReturnType<typeof openDeliveryGround>>;
export type Tenant = Awaited<ReturnType<DeliveryGround["tenant"]>>;
