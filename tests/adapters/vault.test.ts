import { sql } from "drizzle-orm";
import { pino } from "pino";
import postgres from "postgres";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type OpenDatabase, openDatabase } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { type Kms, startKms } from "../../dev/simulators/kms.ts";
import type { JobContext } from "../../jobs/runtime/task.ts";
import { rewrap } from "../../jobs/vault.ts";
import { toApiError } from "../../routers/core/errors.ts";
import type { Providers } from "../../routers/ports/index.ts";
import { KeysUnavailable, type VaultPurpose } from "../../routers/ports/vault.ts";
import { openVault } from "../../server/adapters/vault.ts";
import { openKms } from "../../server/adapters/vault-kms.ts";
import { localMaster } from "../../server/adapters/vault-local.ts";
import { startTestApp, until } from "../support/app.ts";
import { cloneDatabase } from "../support/database.ts";

const credentials = { accessKeyId: "stand-in", secretAccessKey: "stand-in" };
const purpose: VaultPurpose = "provider_credential";

let database: Awaited<ReturnType<typeof cloneDatabase>>;
let db: OpenDatabase;
let owner: postgres.Sql;
let kms: Kms;
let keyId: string;

beforeAll(async () => {
  database = await cloneDatabase();
  db = openDatabase({ ...database.roles, size: 20 });
  owner = postgres(database.url, { max: 4, onnotice: () => {} });
});
beforeEach(async () => {
  await owner`delete from data_keys`;
  kms = await startKms();
  keyId = kms.createKey();
  return () => kms.close();
});
afterAll(async () => {
  await db.close();
  await owner.end();
  await database.drop();
});

async function client(): Promise<string> {
  const clientId = newId("client");
  await owner`insert into clients (id, name) values (${clientId}, 'a client')`;
  return clientId;
}

/** Long timeouts, because the test counts the requests. */
const patient = { deadlineMs: 30_000, connectMs: 30_000, attemptMs: 30_000 };
const service = () => openKms({ region: "us-east-1", endpoint: kms.url, credentials, ...patient });
const operations = () => kms.requests.map(({ operation }) => operation);
const rows = () => owner<{ id: string; client_id: string; purpose: string; master: string; wrapped: string }[]>`
  select id, client_id, purpose, master, wrapped from data_keys order by client_id, id`;

type Vaults = ReturnType<typeof openVault>;
const kmsVault = (more: Partial<Parameters<typeof openVault>[0]> = {}) =>
  openVault({ db, master: service().master(keyId), ...more });

/** The job, run here with the master keys of this vault. */
const run = (masterKeys: Vaults["masterKeys"], work = db) =>
  rewrap.run({}, {
    providers: { masterKeys } as Providers,
    asSystem: (tx, options) => work.asSystem(tx, options),
    log: pino({ level: "silent" }),
    signal: new AbortController().signal,
  } as JobContext);

describe("the vault over KMS", () => {
  test("seals and opens, keeps its data key only wrapped, and binds it to client, purpose and itself", async () => {
    const clientId = await client();
    const ring = await kmsVault().vault.keys(clientId, purpose);
    const sealed = ring.seal("a secret", "row_1");
    expect(sealed.includes("a secret")).toBe(false);

    const again = await kmsVault().vault.keys(clientId, purpose); // another process
    expect(again.open(sealed, "row_1").toString()).toBe("a secret");
    expect(() => again.open(sealed, "row_2")).toThrow();
    const [row] = await rows();
    expect(row).toMatchObject({ client_id: clientId, purpose, master: `kms:${keyId}` });
    const context = { client: clientId, purpose, key: row!.id };
    expect(kms.requests).toEqual([
      { operation: "GenerateDataKey", keyId, context, answered: "ok" },
      { operation: "Decrypt", keyId, context, answered: "ok" },
    ]);
  });

  test("makes one data key for many concurrent first uses, in one request per process", async () => {
    const clientId = await client();
    const [one, two] = [kmsVault(), kmsVault()];
    const rings = await Promise.all(
      Array.from({ length: 40 }, (_, n) => (n % 2 ? one : two).vault.keys(clientId, purpose)),
    );
    expect(await rows()).toHaveLength(1);
    const sealed = rings[0]!.seal("x", "r");
    for (const ring of rings) expect(ring.open(sealed, "r").toString()).toBe("x");
    expect(operations().filter((name) => name === "GenerateDataKey").length).toBeLessThanOrEqual(2);
    expect(operations().length).toBeLessThanOrEqual(3); // the second process unwraps the first one's
  });

  test("of two that make the same key at the same moment both take the one that was kept", async () => {
    const clientId = await client();
    const both = Promise.withResolvers<void>();
    let making = 0;
    const own = service().master(keyId);
    const master: typeof own = {
      ...own,
      async generate(context) {
        const made = await own.generate(context);
        if (++making === 2) both.resolve();
        await both.promise;
        return made;
      },
    };
    const vaults = [openVault({ db, master }), openVault({ db, master })];
    const [one, two] = await Promise.all(vaults.map(({ vault }) => vault.keys(clientId, purpose)));
    expect(await rows()).toHaveLength(1);
    expect(two!.open(one!.seal("x", "r"), "r").toString()).toBe("x");
    const later = await kmsVault().vault.keys(clientId, purpose);
    expect(later.open(two!.seal("y", "r"), "r").toString()).toBe("y");
  });

  test("does not open a data key in another place: another client's, another purpose's, another row's", async () => {
    const [ada, bob] = [await client(), await client()];
    await kmsVault().vault.keys(ada, purpose);
    const [own] = await rows();
    const foreign = async (clientId: string, under: string, id: string) => {
      await owner`insert into data_keys (client_id, id, purpose, master, wrapped)
        values (${clientId}, ${id}, ${under}, ${own!.master}, ${own!.wrapped})`;
      return kmsVault().vault.keys(clientId, under as VaultPurpose);
    };
    await expect(foreign(bob, purpose, own!.id)).rejects.toThrow("could not decrypt this data key");
    await expect(foreign(ada, "webhook_secret", newId("dataKey"))).rejects.toThrow("could not decrypt this data key");
    await owner`update data_keys set id = ${newId("dataKey")} where client_id = ${ada} and purpose = ${purpose}`;
    await expect(kmsVault().vault.keys(ada, purpose)).rejects.toThrow("could not decrypt this data key");
    expect(kms.requests.filter(({ answered }) => answered === "InvalidCiphertextException")).toHaveLength(3);
  });

  test("does not use a key that only a row names", async () => {
    const clientId = await client();
    await kmsVault().vault.keys(clientId, purpose);
    const strange = kms.createKey();
    await owner`update data_keys set master = ${`kms:${strange}`}`;
    await expect(kmsVault().vault.keys(clientId, purpose)).rejects.toThrow(KeysUnavailable);
    expect(kms.requests.map(({ keyId: asked }) => asked)).not.toContain(strange);
  });

  test("of a disabled key waits until it is enabled", async () => {
    const clientId = await client();
    const { vault } = kmsVault();
    kms.disableKey(keyId);
    await expect(vault.keys(clientId, purpose)).rejects.toThrow(KeysUnavailable);
    expect(await rows()).toEqual([]);
    kms.enableKey(keyId);
    await expect(vault.keys(clientId, purpose)).resolves.toBeDefined();
  });

  test("retries after a rate limit, and no longer than its deadline", async () => {
    const { vault } = kmsVault();
    kms.fail("ThrottlingException", 2);
    await expect(vault.keys(await client(), purpose)).resolves.toBeDefined();
    expect(operations()).toHaveLength(3);
    kms.fail("ThrottlingException", 3);
    const failed = await vault.keys(await client(), purpose).catch((error: unknown) => error);
    expect(failed).toBeInstanceOf(KeysUnavailable);
    expect(operations()).toHaveLength(6);
    expect(toApiError(failed)).toMatchObject({ errorCode: "server_overloaded", status: 503, retryAfterSeconds: 5 });
  });

  test("does not wait for one that never answers", async () => {
    const silent = (await import("node:net")).createServer(() => {});
    await new Promise<void>((listening) => silent.listen(0, "127.0.0.1", listening));
    const { port } = silent.address() as { port: number };
    const stuck = openKms({ region: "us-east-1", endpoint: `http://127.0.0.1:${port}`, credentials, deadlineMs: 300 });
    const { vault } = openVault({ db, master: stuck.master(keyId) });
    await expect(vault.keys(await client(), purpose)).rejects.toThrow(KeysUnavailable);
    stuck.close();
    silent.close();
  });

  test("uses an unwrapped key while KMS is down, for five minutes at most; a wrapped one cannot be used", async () => {
    let now = 0;
    const { vault } = kmsVault({ now: () => now });
    const [warm, cold] = [await client(), await client()];
    const ring = await vault.keys(warm, purpose);
    const sealed = ring.seal("x", "r");
    await kmsVault().vault.keys(cold, purpose);
    await kms.close();

    now = 5 * 60_000 - 1;
    expect((await vault.keys(warm, purpose)).open(sealed, "r").toString()).toBe("x");
    await expect(vault.keys(cold, purpose)).rejects.toThrow(KeysUnavailable);
    now += 1;
    await expect(vault.keys(warm, purpose)).rejects.toThrow(KeysUnavailable);
  });

  test("keeps so many keys open and no more, and forgets each when its time is over", async () => {
    let now = 0;
    const { vault, opened } = kmsVault({ now: () => now, size: 3 });
    const clients = await Promise.all(Array.from({ length: 5 }, client));
    for (const clientId of clients) await vault.keys(clientId, purpose);
    expect(opened()).toBe(3);
    const asked = operations().length;
    await vault.keys(clients[4]!, purpose);
    expect(operations()).toHaveLength(asked);
    await vault.keys(clients[0]!, purpose);
    expect(operations()).toHaveLength(asked + 1);
    now = 5 * 60_000;
    await vault.keys(clients[0]!, purpose);
    expect(opened()).toBe(1);
  });
});

describe("a new master key", () => {
  const a = localMaster(Buffer.alloc(32, 1));
  const b = localMaster(Buffer.alloc(32, 2));

  test("unwraps what the old one wrapped, and wraps it again; what was sealed before opens without the old one", async () => {
    const next = () => service().master(kms.createKey());
    const chain = [a, b, service().master(keyId), next(), a]; // within the environment, to KMS, within KMS, and back
    const clientId = await client();
    const sealed = (await openVault({ db, master: a }).vault.keys(clientId, purpose)).seal("kept", "r");
    for (const [n, master] of chain.entries()) {
      if (n === 0) continue;
      const old = chain[n - 1]!;
      const { vault, masterKeys } = openVault({ db, master, previous: [old] });
      expect((await vault.keys(clientId, purpose)).open(sealed, "r").toString()).toBe("kept");
      await run(masterKeys);
      expect((await rows()).map((row) => row.master)).toEqual([master.name]);
      const alone = openVault({ db, master });
      expect((await alone.vault.keys(clientId, purpose)).open(sealed, "r").toString()).toBe("kept");
      if (old.name !== chain.at(-1)!.name || n < chain.length - 1) {
        await expect(openVault({ db, master: old }).vault.keys(clientId, purpose)).rejects.toThrow(KeysUnavailable);
      }
    }
  });

  test("wraps hundreds again while they are in use: nothing sealed meanwhile is lost", async () => {
    const clients = await Promise.all(Array.from({ length: 230 }, client));
    const old = openVault({ db, master: a });
    for (const clientId of clients) await old.vault.keys(clientId, purpose);
    const between = openVault({ db, master: service().master(keyId), previous: [a], size: 1 }); // unwraps each time
    const sealed: [string, Buffer][] = [];
    let isOver = false;
    const sealing = (async () => {
      for (let n = 0; !isOver || n < 50; n++) {
        const clientId = clients[n % clients.length]!;
        const from = n % 2 ? old : between;
        sealed.push([clientId, (await from.vault.keys(clientId, purpose)).seal(`text ${n}`, "r")]);
      }
    })();
    await Promise.all([run(between.masterKeys), run(between.masterKeys)]); // two concurrent workers
    isOver = true;
    await sealing;
    expect(new Set((await rows()).map((row) => row.master))).toEqual(new Set([`kms:${keyId}`]));
    const alone = openVault({ db, master: service().master(keyId) });
    for (const [n, [clientId, bytes]] of sealed.entries()) {
      expect((await alone.vault.keys(clientId, purpose)).open(bytes, "r").toString()).toBe(`text ${n}`);
    }
  }, 60_000);

  test("replaces only what it wrapped: a row changed meanwhile is left", async () => {
    const clientId = await client();
    await openVault({ db, master: a }).vault.keys(clientId, purpose);
    const { masterKeys } = openVault({ db, master: b, previous: [a] });
    const meddling = {
      ...masterKeys,
      async rewrap(key: Parameters<typeof masterKeys.rewrap>[0]) {
        const wrapped = await masterKeys.rewrap(key);
        await owner`update data_keys set wrapped = 'changed meanwhile'`;
        return wrapped;
      },
    };
    await run(meddling);
    expect(await rows()).toMatchObject([{ wrapped: "changed meanwhile", master: a.name }]);
  });

  test("wraps the others when one cannot be unwrapped, and reports that one", async () => {
    const clients = await Promise.all([client(), client(), client()]);
    for (const clientId of clients) await openVault({ db, master: a }).vault.keys(clientId, purpose);
    await owner`update data_keys set master = 'local:lost' where client_id = ${clients[1]!}`;
    const { masterKeys } = openVault({ db, master: b, previous: [a] });
    await expect(run(masterKeys)).rejects.toThrow("1 data keys could not be wrapped by the present master key");
    const masters = (await rows()).map((row) => row.master);
    expect(masters.filter((name) => name === b.name)).toHaveLength(2);
    expect(masters).toContain("local:lost");
  });

  test("that becomes unavailable in the middle leaves every row usable with one of the two", async () => {
    const clients = await Promise.all(Array.from({ length: 20 }, client));
    for (const clientId of clients) await openVault({ db, master: a }).vault.keys(clientId, purpose);
    const both = openVault({ db, master: service().master(keyId), previous: [a] });
    let wrapped = 0;
    const failing = {
      ...both.masterKeys,
      async rewrap(key: Parameters<typeof both.masterKeys.rewrap>[0]) {
        if (++wrapped === 8) await kms.close();
        return both.masterKeys.rewrap(key);
      },
    };
    await expect(run(failing)).rejects.toThrow("could not be wrapped by the present master key");
    const masters = new Set((await rows()).map((row) => row.master));
    expect([...masters].toSorted()).toEqual([`kms:${keyId}`, a.name].toSorted());
  });
});

describe("the application", async () => {
  const standIn = await startKms();
  afterAll(() => standIn.close());
  Object.assign(process.env, { AWS_ACCESS_KEY_ID: "stand-in", AWS_SECRET_ACCESS_KEY: "stand-in" });
  const houseKey = standIn.createKey();
  const env = {
    VAULT_MASTER_KEY: "",
    VAULT_KMS_KEY_ID: houseKey,
    VAULT_KMS_REGION: "us-east-1",
    VAULT_KMS_ENDPOINT: standIn.url,
  };
  const h = await startTestApp({ env, workers: true });

  test("returns 503 while KMS is unavailable, does nothing, and later delivers without an attempt used", async () => {
    const made = await h.post("/webhooks", { url: "http://127.0.0.1:9/nobody", eventTypes: ["api_key.created"] });
    expect(made.status).toBe(201);
    standIn.disableKey(houseKey);

    const bobs = { key: h.bob.key }; // of whom no key is open
    const refused = await h.post("/webhooks", { url: "http://127.0.0.1:9/nobody" }, bobs);
    expect(refused).toMatchObject({ status: 503, body: { error: { code: "server_overloaded" } } });
    expect(refused.headers.get("retry-after")).toBe("5");
    const keyed = await h.post("/agents", { name: "A", systemPrompt: "Be brief." }, { ...bobs, idempotencyKey: "k" });
    expect(keyed).toMatchObject({ status: 503, body: { error: { code: "server_overloaded" } } });
    expect(JSON.stringify([refused.body, keyed.body])).not.toMatch(/kms|disabled/i);
    expect(await h.owner`select from webhook_endpoints where client_id = ${h.bob.clientId}`).toHaveLength(0);
    expect(await h.owner`select from agents where client_id = ${h.bob.clientId}`).toHaveLength(0);

    // Bob's endpoint was created by another process, so none of Bob's keys is unwrapped here.
    await h.owner`insert into webhook_endpoints (client_id, id, url, event_types, secret, status)
      values (${h.bob.clientId}, ${newId("endpoint")}, 'http://127.0.0.1:9/nobody', ${["*"]}, ${Buffer.alloc(40)}, 'enabled')`;
    await h.post("/auth/api-keys", { name: "New", scopes: ["calls:read"] }, bobs);
    const waiting = await until(async () => {
      const [row] =
        await h.owner`select status, attempts, last_error from deliveries where client_id = ${h.bob.clientId}`;
      return row?.last_error ? row : null;
    });
    expect(waiting).toMatchObject({ status: "pending", attempts: 0, last_error: "key_unavailable" });
    standIn.enableKey(houseKey);
  }, 60_000);

  test("puts off a job that could not open what is sealed, and uses up no attempt", async () => {
    standIn.disableKey(houseKey);
    await h.deps.db.asClient({ clientId: h.ada.clientId }, (tx) =>
      tx.execute(
        sql`select graphile_worker.patchbay_enqueue(${JSON.stringify([
          { task: "credentials.publish", body: { provider: "lmnt" } },
        ])}::json)`,
      ),
    );
    const put = await until(async () => {
      const found = await h.owner`select payload from graphile_worker._private_jobs j
        join graphile_worker._private_tasks t on t.id = j.task_id
        where t.identifier = 'credentials.publish' and j.locked_at is null and j.run_at > now() + interval '5 seconds'`;
      return found[0] ?? null;
    });
    expect(put.payload.attempt).toBe(0);
    standIn.enableKey(houseKey);
  }, 60_000);
});
