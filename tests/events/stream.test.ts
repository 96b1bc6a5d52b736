import { spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import type { TRPCClientError } from "@trpc/client";
import { isTrackedEnvelope } from "@trpc/server";
import { afterAll, afterEach, describe, expect, expectTypeOf, test, vi } from "vitest";
import type { Tx } from "../../db/client.ts";
import { emit } from "../../db/events.ts";
import { newId } from "../../db/ids.ts";
import { openNotifications } from "../../db/notifications.ts";
import { createPatchbayClient } from "../../edge/client.ts";
import { type Follower, followerLimits, openEventFollowers } from "../../routers/core/event-followers.ts";
import { followEvents, followTimings } from "../../routers/events/follow.ts";
import type { Event } from "../../routers/events/schema.ts";
import { makeKey } from "../contract/endpoints/core.ts";
import { startTestApp, until } from "../support/app.ts";
import { program } from "../support/program.ts";

const h = await startTestApp();
const { ada, bob } = h;
const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
  await until(async () => h.deps.live.taken === 0);
});

/** Emits agent.created, in a transaction that stays open while `before` runs. */
function emitCreated(name: string, { who = ada, id = newId("agent"), before = async (_: Tx) => {} } = {}) {
  return h.deps.db.asClient({ clientId: who.clientId }, async (tx) => {
    await emit(tx, "agent.created", id, { id, name, status: "active", version: 1 });
    await before(tx);
  });
}

/** The same, but the event is not committed until it is released. */
async function hold(name: string, who = ada) {
  const stated = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<void>();
  closers.push(gate.resolve);
  const before = () => {
    stated.resolve();
    return gate.promise;
  };
  const committed = emitCreated(name, { who, before });
  await Promise.race([stated.promise, committed]);
  return () => {
    gate.resolve();
    return committed;
  };
}

/** Waits until the events are below the horizon, which transactions of other databases hold back too. */
const settled = () =>
  until(async () => {
    const above =
      await h.owner`select from events where position >= pg_snapshot_xmin(pg_current_snapshot())::text::bigint limit 1`;
    return above.length === 0;
  });

type Given = { id: string; data: Event | null };
type Input = { after?: string; types?: string[]; subjectId?: string };

/** Follows with the typed client. The first item is the start position. */
async function follow(
  input: Input = {},
  who: Partial<Parameters<typeof createPatchbayClient>[0]> = { apiKey: ada.key },
) {
  if (!input.after) await settled();
  const seen: Given[] = [];
  const errors: TRPCClientError<never>[] = [];
  const statuses: string[] = [];
  let stopped = false;
  const client = createPatchbayClient({ url: h.url, ...who });
  const subscription = client.events.stream.subscribe(input, {
    onData: (given) => {
      expectTypeOf(given.data).toEqualTypeOf<Event | null>();
      seen.push(given);
    },
    onError: (error) => void errors.push(error as unknown as TRPCClientError<never>),
    onConnectionStateChange: ({ state }) => void statuses.push(state),
    onStopped: () => {
      stopped = true;
    },
  });
  closers.push(() => subscription.unsubscribe());
  await until(async () => errors.length > 0 || statuses.includes("pending"));
  if (errors.length === 0 && !input.after) await until(async () => seen.length > 0 || errors.length > 0);
  const names = () => seen.flatMap(({ data }) => (data ? [data.data.name as string] : []));
  return {
    seen,
    names,
    errors,
    statuses,
    isStopped: () => stopped,
    close: () => subscription.unsubscribe(),
    /** Waits for this number of events, and returns their names. */
    async until(count: number) {
      await until(async () => names().length >= count);
      return names();
    },
    code: () => until(async () => (errors[0]?.data as { code?: string } | undefined)?.code),
  };
}

describe("the stream of events", () => {
  test("sends new events of its client only, as GET /events returns them", async () => {
    await emitCreated("before");
    const stream = await follow();
    expect(stream.seen).toEqual([{ id: expect.any(String), data: null }]);
    await emitCreated("of bob", { who: bob });
    await emitCreated("first");
    await emitCreated("second");
    expect(await stream.until(2)).toEqual(["first", "second"]);
    const [second, first] = (await h.get("/events?limit=2")).body.data;
    expect(stream.seen.slice(1).map(({ data }) => data)).toEqual([first, second]);
  });

  test("continues from the position of a reader, on the same or a new connection, without gaps or duplicates", async () => {
    const stream = await follow();
    await emitCreated("one");
    await stream.until(1);
    stream.close();
    await emitCreated("two");
    await emitCreated("three");
    const again = await follow({ after: stream.seen.at(-1)!.id });
    expect(await again.until(2)).toEqual(["two", "three"]);
    // From the start position, before any event.
    const anew = await follow({ after: stream.seen[0]!.id });
    expect(await anew.until(3)).toEqual(["one", "two", "three"]);
  });

  test("loses nothing while a transaction stays open and later ones commit, and keeps the order of the tail", async () => {
    followTimings.pollEveryMs = 120_000;
    try {
      const stream = await follow();
      const commitSlow = await hold("slow");
      for (const name of ["quick 1", "quick 2", "quick 3"]) await emitCreated(name);
      await sleep(1_000);
      expect(stream.names()).toEqual([]);
      await commitSlow();
      expect(await stream.until(4)).toEqual(["slow", "quick 1", "quick 2", "quick 3"]);
      // Without a further notification.
      const commitOther = await hold("of bob", bob);
      await emitCreated("behind bob");
      await sleep(1_000);
      expect(stream.names()).toHaveLength(4);
      await commitOther();
      expect((await stream.until(5)).at(-1)).toBe("behind bob");
    } finally {
      followTimings.pollEveryMs = 10_000;
    }
  });

  test("sends more than one page, in order", async () => {
    const stream = await follow();
    const names = Array.from({ length: 250 }, (_, n) => `n${n}`);
    await h.deps.db.asClient({ clientId: ada.clientId }, async (tx) => {
      for (const name of names) {
        await emit(tx, "agent.created", newId("agent"), { id: "agent_x", name, status: "active", version: 1 });
      }
    });
    expect(await stream.until(250)).toEqual(names);
  });

  test("sends only the requested types and subject", async () => {
    const id = newId("agent");
    const [ofType, ofSubject, ofNone] = [
      await follow({ types: ["agent.*"] }),
      await follow({ subjectId: id }),
      await follow({ types: ["call.*", "voice.created"] }),
    ];
    await emitCreated("another");
    await emitCreated("this", { id });
    expect(await ofType.until(2)).toEqual(["another", "this"]);
    expect(await ofSubject.until(1)).toEqual(["this"]);
    expect(ofNone.names()).toEqual([]);
  });

  test("is resumed by the client when its connection breaks", async () => {
    const stream = await follow();
    await emitCreated("one");
    await stream.until(1);
    cutAll();
    await emitCreated("while away");
    expect(await stream.until(2)).toEqual(["one", "while away"]);
    expect(stream.statuses).toEqual(expect.arrayContaining(["connecting", "pending"]));
    expect(stream.errors).toEqual([]);
  });

  test("continues after the notification connection is lost, and sends the events of the meantime", async () => {
    followTimings.pollEveryMs = 120_000; // only a notification can wake the stream
    try {
      const stream = await follow();
      await emitCreated("one");
      await stream.until(1);
      const cut = await h.owner`select pg_terminate_backend(pid) from pg_stat_activity
        where application_name = 'patchbay-notices' and datname = current_database()`;
      expect(cut).toHaveLength(1);
      await emitCreated("two");
      expect(await stream.until(2)).toEqual(["one", "two"]);
      await until(async () => {
        const listeners = await h.owner`select from pg_stat_activity
          where application_name = 'patchbay-notices' and datname = current_database()`;
        return listeners.length === 1;
      });
      await emitCreated("three");
      expect(await stream.until(3)).toEqual(["one", "two", "three"]);
    } finally {
      followTimings.pollEveryMs = 10_000;
    }
  });

  test("uses one database connection for all followers", async () => {
    const streams = await Promise.all([follow(), follow(), follow({}, { apiKey: bob.key })]);
    expect(h.deps.live.taken).toBe(3);
    const listeners = await h.owner`select from pg_stat_activity
      where application_name = 'patchbay-notices' and datname = current_database()`;
    expect(listeners).toHaveLength(1);
    streams[0]!.close();
    await until(async () => h.deps.live.taken === 2);
  });
});

/** Destroys every open connection of the process, as a failing load balancer would. */
const lines = new Set<import("node:net").Socket>();
h.server.on("connection", (socket) => {
  lines.add(socket);
  socket.once("close", () => lines.delete(socket));
});
function cutAll() {
  for (const line of lines) line.resetAndDestroy();
}

describe("the stream of events is refused", () => {
  const none = { key: null };

  /** The raw server-sent events of the response. */
  async function raw(input: unknown, { key = ada.key as string | null, headers = {} } = {}) {
    const response = await fetch(`${h.url}/trpc/events.stream?input=${encodeURIComponent(JSON.stringify(input))}`, {
      headers: { ...(key ? { authorization: `Bearer ${key}` } : {}), accept: "text/event-stream", ...headers },
    });
    const text = await response.text();
    const error = /event: serialized-error\ndata: (.*)\n/.exec(text)?.[1];
    return { response, error: error ? JSON.parse(error) : undefined };
  }

  test("without a key, and the error does not describe the input", async () => {
    for (const input of [{}, { surprise: 1 }]) {
      const { error } = await raw(input, none);
      expect(error.data).toMatchObject({ code: "unauthenticated", httpStatus: 401 });
    }
  });

  test("for a key without the scope, and the error names the scope", async () => {
    const { key } = await makeKey(h, ada, ["calls:read"]);
    const { error } = await raw({}, { key });
    expect(error).toMatchObject({ message: expect.stringContaining("events:read"), data: { code: "scope_missing" } });
  });

  test("for an unknown field, an unknown type, or text that the database cannot store", async () => {
    for (const [input, path] of [
      [{ surprise: 1 }, "surprise"],
      [{ types: ["call.exploded"] }, "types.0"],
      [{ types: "call.*" }, "types"],
      [{ subjectId: "a\0" }, "subjectId"],
    ] as const) {
      const { error } = await raw(input);
      expect(error.data).toMatchObject({ code: "input_invalid", details: [{ path }] });
    }
  });

  test("for a position of another client, of another list, or invented", async () => {
    const stream = await follow();
    const own = stream.seen[0]!.id;
    const [, signature] = own.split(".");
    const forged = `${Buffer.from("1:").toString("base64url")}.${signature}`;
    await emitCreated("listed");
    const listed = await until(async () => (await h.get("/events?order=asc&limit=1")).body.meta.nextCursor);
    for (const [after, key] of [
      [own, bob.key],
      [forged, ada.key],
      [listed, ada.key],
      ["x", ada.key],
    ] as const) {
      for (const { error } of [
        await raw({ after }, { key }),
        await raw({}, { key, headers: { "last-event-id": after } }),
      ]) {
        expect(error.data).toMatchObject({ code: "cursor_invalid", httpStatus: 400 });
      }
    }
  });

  test("above the limit of a principal, until one of its streams ends", async () => {
    const streams = await Promise.all(Array.from({ length: followerLimits.perPrincipal }, () => follow()));
    const { error } = await raw({});
    expect(error.data).toMatchObject({ code: "rate_limit_exceeded", httpStatus: 429 });
    const others = await follow({}, { apiKey: bob.key });
    expect(others.errors).toEqual([]);
    streams[0]!.close();
    await until(async () => h.deps.live.taken === followerLimits.perPrincipal);
    expect((await follow()).errors).toEqual([]);
  });

  test("above the limit of a client, over all its keys; another client is accepted", async () => {
    const keys = await Promise.all(Array.from({ length: 4 }, () => makeKey(h, ada, ["events:read"])));
    const places = keys
      .flatMap(({ id }) => Array.from({ length: followerLimits.perPrincipal }, () => id))
      .slice(0, followerLimits.perClient)
      .map((id) => h.deps.live.enter(id, ada.clientId));
    try {
      for (const who of [{ key: keys[3]!.key }, { key: await h.token(ada) }]) {
        const { error } = await raw({}, who);
        expect(error.data).toMatchObject({ code: "rate_limit_exceeded", httpStatus: 429 });
      }
      const others = await follow({}, { apiKey: bob.key });
      expect(others.errors).toEqual([]);
    } finally {
      for (const place of places) place.leave();
    }
    expect(followerLimits.perClient * 10).toBeLessThanOrEqual(followerLimits.perProcess);
    expect((await follow({}, { apiKey: keys[3]!.key })).errors).toEqual([]);
  });

  test("above the limit of the process", async () => {
    const notices = openNotifications({ url: h.deps.roles.tenantUrl, channel: "none" });
    const live = openEventFollowers(notices, { perProcess: 2, perPrincipal: 2, concurrentReads: 1 });
    const places = [live.enter("key_1", ada.clientId), live.enter("key_2", ada.clientId)];
    expect(() => live.enter("key_3", ada.clientId)).toThrow(
      expect.objectContaining({ errorCode: "server_overloaded" }),
    );
    places[0]!.leave();
    places[0]!.leave();
    live.enter("key_3", ada.clientId).leave();
    places[1]!.leave();
    await notices.close();
  });
});

describe("the stream of events ends", () => {
  test("when its key is revoked", async () => {
    const { key, id } = await makeKey(h, ada, ["events:read"]);
    const stream = await follow({}, { apiKey: key });
    await h.remove(`/auth/api-keys/${id}`);
    expect(await stream.code()).toBe("unauthenticated");
  });

  test("when its client is suspended, for keys and for people", async () => {
    const byKey = await follow({}, { apiKey: bob.key });
    const byToken = await follow({}, { token: await h.token(bob) });
    await h.owner`update clients set status = 'suspended' where id = ${bob.clientId}`;
    try {
      expect(await byKey.code()).toBe("client_suspended");
      await until(async () => byToken.errors.length > 0, 40);
      expect(await byToken.code()).toBe("client_suspended");
    } finally {
      await h.owner`update clients set status = 'active' where id = ${bob.clientId}`;
    }
  }, 60_000);

  test("not when a user's token expires: the client reconnects with a new one", async () => {
    let tokensIssued = 0;
    const token = async () => {
      tokensIssued += 1;
      return tokensIssued === 1 ? h.token(bob, { exp: Math.floor(Date.now() / 1000) + 60 }) : h.token(bob);
    };
    const stream = await follow({}, { token });
    vi.useFakeTimers({ toFake: ["Date"], shouldAdvanceTime: true, now: Date.now() + 120_000 });
    try {
      await until(async () => tokensIssued > 1, 40);
      await emitCreated("with the fresh one", { who: bob });
      expect(await stream.until(1)).toEqual(["with the fresh one"]);
    } finally {
      vi.useRealTimers();
    }
    expect(stream.errors).toEqual([]);
  }, 60_000);

  test("when the process stops: it waits for no stream, and sends no end of the stream", async () => {
    const { child, exited, url } = await start();
    const response = await fetch(`${url}/trpc/events.stream?input={}`, {
      headers: { authorization: `Bearer ${ada.key}` },
    });
    expect(response.headers.get("content-type")).toContain("text/event-stream");
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    while (!text.includes("data: null")) {
      const { done, value } = await reader.read();
      if (done) throw new Error(`it ended before it began: ${text}`);
      text += value;
    }
    child.kill("SIGTERM");
    let ended: string | number | null = null;
    exited.then((code) => {
      ended = `exit ${code}`;
    });
    await until(async () => ended, 18); // the process waits 20 s for requests that do not end
    expect(ended).toBe("exit 0");
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) text += piece.value;
    expect(text).not.toContain("event: return");
    expect(text).not.toContain("serialized-error");
  }, 120_000);
});

test("a slow reader holds one page and no transaction", async () => {
  const stop = new AbortController();
  let pages = 0;
  let open = 0;
  const follower: Follower = {
    enter: () => h.deps.live.enter("key_slow", ada.clientId),
    check: async () => {},
    key: { secret: Buffer.alloc(32), clientId: ada.clientId, procedure: "events.stream", filters: {} },
    signal: stop.signal,
    async page(work) {
      pages += 1;
      open += 1;
      return h.deps.db.asClient({ clientId: ada.clientId }, work, { mode: "read" }).finally(() => {
        open -= 1;
      });
    },
  };
  await settled();
  const events = followEvents(follower, {});
  expect(isTrackedEnvelope((await events.next()).value)).toBe(true);
  for (let n = 0; n < 150; n++) await emitCreated(`n${n}`);
  await events.next();
  const taken = pages;
  await sleep(300);
  expect({ pages, open }).toEqual({ pages: taken, open: 0 });
  for (let n = 1; n < 150; n++) {
    const { value } = await events.next();
    expect(value).toMatchObject([expect.any(String), { data: { name: `n${n}` } }, expect.anything()]);
  }
  expect(pages).toBeLessThan(20);
  const waiting = events.next();
  stop.abort();
  await expect(waiting).rejects.toMatchObject({ name: "AbortError" });
});

const children: ReturnType<typeof spawn>[] = [];
afterAll(() => {
  for (const child of children) child.kill("SIGKILL");
});

async function start() {
  const env = { PATH: process.env.PATH, ...h.environment, LOG_LEVEL: "info" };
  const child = spawn(process.execPath, program("server/api.ts"), { env, stdio: ["ignore", "pipe", "ignore"] });
  children.push(child);
  const exited = once(child, "exit").then(([code]) => code as number | null);
  let out = "";
  child.stdout.on("data", (chunk) => (out += chunk));
  const port = await until(async () => /"port":(\d+).*"listening"/.exec(out)?.[1], 60);
  return { child, exited, url: `http://127.0.0.1:${port}` };
}
