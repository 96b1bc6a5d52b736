import { describe, expect, test } from "vitest";
import { newId } from "../../db/ids.ts";
import type { Scope } from "../../routers/core/scopes.ts";
import { startTestApp, type TestResponse, until } from "../support/app.ts";
import { answerOf, idsOf, leavers, type Made } from "../support/leavers.ts";

const h = await startTestApp();
const { clientWith, makeKey, ways } = leavers(h);
const failed = ({ status, body }: TestResponse) => ({ status, code: (body.error?.data ?? body.error)?.code });
const byOperator = async () => ({ key: await h.operator() });

const wide: Scope[] = ["agents:read", "api_keys:write", "members:read", "members:write"];
const works = async ({ key }: Made) => (await h.get("/agents", { key })).status === 200;
const stateOf = async (owner: { token: string }, id: string) =>
  (await h.get("/clients/current/invitations?limit=100", { key: owner.token })).body.data.find(
    (row: { id: string }) => row.id === id,
  ).status;

describe("a member who is removed", () => {
  test.each(Object.entries(ways))("by %s loses every key that they created, also by other keys", async (_, remove) => {
    const who = await clientWith("admin");
    const first = await makeKey(who.member.token, wide);
    const second = await makeKey(first.key, wide);
    const rotated = await h.post(`/auth/api-keys/${second.id}/rotate`, { graceSeconds: 3600 }, { key: second.key });
    const third: Made = rotated.body.data;
    const others = await makeKey(who.owner.token, wide);
    for (const key of [first, second, third, others]) expect(await works(key)).toBe(true);

    const left = answerOf(await remove(who));
    expect(idsOf(left.revokedApiKeys)).toEqual(idsOf([first, second, third]));
    expect(left.keptApiKeys).toEqual([]);
    for (const key of [first, second, third]) expect(await works(key)).toBe(false);
    expect(await works(others)).toBe(true);
    expect(await works({ id: who.owner.keyId, key: who.owner.key })).toBe(true);
    for (const { id } of [first, second, third]) {
      const said =
        await h.owner`select type from events where subject_id = ${id} and client_id = ${who.owner.clientId}`;
      expect(said.map(({ type }) => type).toSorted()).toEqual(["api_key.created", "api_key.revoked"]);
    }
    // An attack that must fail: a key of the removed member invites a new admin.
    const back = { email: "back@example.com", role: "admin" };
    expect(failed(await h.post("/clients/current/invitations", back, { key: third.key }))).toMatchObject({
      status: 401,
    });
  });

  test.each(Object.entries(ways))(
    "by %s leaves the keys that are kept on purpose, and they are named",
    async (_, remove) => {
      const who = await clientWith("admin");
      const first = await makeKey(who.member.token, wide);
      const second = await makeKey(first.key, ["agents:read"]);
      const left = answerOf(await remove(who, { keepApiKeys: true }));
      expect([left.revokedApiKeys, idsOf(left.keptApiKeys)]).toEqual([[], idsOf([first, second])]);
      expect(await Promise.all([first, second].map(works))).toEqual([true, true]);
    },
  );

  test("withdraws their invitations: those that they created, also by keys, and those to their address", async () => {
    const { owner, member } = await clientWith("admin");
    const key = await makeKey(member.token, ["members:write", "agents:read"]);
    const invite = async (by: string, email: string, role = "viewer") => {
      const made = await h.post("/clients/current/invitations", { email, role }, { key: by });
      return made.body.data as { id: string; token: string };
    };
    const friend = await invite(member.token, "friend@example.com", "admin");
    const own = await invite(owner.token, member.email.toUpperCase());
    const unrelated = await invite(owner.token, "unrelated@example.com");
    expect(
      failed(
        await h.post("/clients/current/invitations", { email: "x@example.com", role: "viewer" }, { key: key.key }),
      ),
    ).toMatchObject({ code: "scope_missing" });
    const removed = answerOf(
      await h.remove(`/clients/current/members/${member.id}?keepApiKeys=true`, { key: owner.token }),
    );
    expect(removed.withdrawnInvitations).toBe(2);
    expect(await Promise.all([friend, own, unrelated].map(({ id }) => stateOf(owner, id)))).toEqual([
      "withdrawn",
      "withdrawn",
      "open",
    ]);
    const stranger = await h.identity.token({ sub: newId("user"), clients: [] });
    expect(failed(await h.post(`/invitations/${friend.token}/accept`, {}, { key: stranger }))).toMatchObject({
      status: 404,
    });
  });

  test("cannot concurrently create anything that outlives their access: a key, a key of a key, an invitation", async () => {
    for (let round = 0; round < 4; round++) {
      const { owner, member } = await clientWith("admin");
      const key = await makeKey(member.token, wide);
      const crowd = Array.from({ length: 6 }, () => [
        h.post("/auth/api-keys", { name: "Late", scopes: wide }, { key: member.token }),
        h.post("/auth/api-keys", { name: "Late", scopes: wide }, { key: key.key }),
        h.post(`/auth/api-keys/${key.id}/rotate`, { graceSeconds: 60 }, { key: member.token }),
        h.post("/clients/current/invitations", { email: "late@example.com", role: "admin" }, { key: member.token }),
      ]);
      const made = crowd.flat();
      const removed = h.remove(`/clients/current/members/${member.id}`, { key: owner.token });
      const answers = await Promise.all(made);
      answerOf(await removed);
      for (const { status } of answers) expect(status).toBeLessThan(500);
      const [left] = await h.owner`select
        (select count(*)::int from api_keys where client_id = ${owner.clientId} and revoked_at is null) as keys,
        (select count(*)::int from invitations where client_id = ${owner.clientId} and revoked_at is null
          and accepted_at is null) as invitations`;
      expect(left).toEqual({ keys: 1, invitations: 0 }); // the owner's own
    }
  });

  test("loses the event stream within seconds", async () => {
    const { owner, member } = await clientWith("viewer");
    const asked = await fetch(`${h.url}/trpc/events.stream?input=%7B%7D`, {
      headers: { authorization: `Bearer ${member.token}`, accept: "text/event-stream" },
    });
    const reading = asked.text();
    await until(async () => h.deps.live.taken > 0);
    answerOf(await h.remove(`/clients/current/members/${member.id}`, { key: owner.token }));
    expect(await reading).toContain("client_forbidden");
  }, 40_000);
});

describe("a member who gets another role", () => {
  test("keeps keys within the scopes of the new role; others are revoked, except with keepApiKeys", async () => {
    for (const keepApiKeys of [false, true]) {
      const { owner, member } = await clientWith("admin");
      const reads = await makeKey(member.token, ["agents:read"]);
      const writes = await makeKey(member.token, ["agents:read", "agents:write"]);
      const chained = await makeKey((await makeKey(member.token, wide)).key, ["agents:read", "members:write"]);
      const friend = await h.post(
        "/clients/current/invitations",
        { email: "f@example.com", role: "viewer" },
        { key: member.token },
      );
      const changed = await h.patch(
        `/clients/current/members/${member.id}`,
        { role: "viewer", keepApiKeys },
        { key: owner.token },
      );
      const left = answerOf(changed);
      expect(changed.body.data).toMatchObject({ id: member.id, role: "viewer", withdrawnInvitations: 1 });
      expect(left.revokedApiKeys).toHaveLength(keepApiKeys ? 0 : 3);
      expect(left.keptApiKeys).toHaveLength(keepApiKeys ? 4 : 1);
      expect(await Promise.all([reads, writes, chained].map(works))).toEqual([true, keepApiKeys, keepApiKeys]);
      expect(await stateOf(owner, friend.body.data.id)).toBe("withdrawn");
    }
  });

  test("with the same scopes loses nothing", async () => {
    const { owner, member } = await clientWith("admin");
    const key = await makeKey(member.token, wide);
    const ask = { key: owner.token };
    const invited = await h.post(
      "/clients/current/invitations",
      { email: "g@example.com", role: "admin" },
      { key: member.token },
    );
    const promoted = await h.patch(`/clients/current/members/${member.id}`, { role: "owner" }, ask);
    expect(promoted.body.data).toMatchObject({ role: "owner", revokedApiKeys: [], withdrawnInvitations: 0 });
    expect([await works(key), await stateOf(owner, invited.body.data.id)]).toEqual([true, "open"]);
    const theirs = await h.post(
      "/clients/current/invitations",
      { email: "o@example.com", role: "owner" },
      { key: member.token },
    );
    const demoted = await h.patch(
      `/admin/clients/${owner.clientId}/members/${member.id}`,
      { role: "admin" },
      await byOperator(),
    );
    expect(demoted.body.data).toMatchObject({ role: "admin", revokedApiKeys: [], withdrawnInvitations: 1 });
    expect(await stateOf(owner, theirs.body.data.id)).toBe("withdrawn");
  });
});

describe("the list of API keys", () => {
  test("shows the creator of each key, and can be filtered by creator", async () => {
    const { owner, member } = await clientWith("admin");
    const first = await makeKey(member.token, wide);
    const second = await makeKey(first.key, ["agents:read"]);
    const list = async (createdBy: string) =>
      (await h.get(`/auth/api-keys?createdBy=${createdBy}`, { key: owner.token })).body;
    expect((await list(member.userId)).data).toMatchObject([{ id: first.id, createdBy: member.userId }]);
    expect((await list(first.id)).data).toMatchObject([{ id: second.id, createdBy: first.id }]);
    expect((await list(owner.userId)).data).toMatchObject([{ id: owner.keyId, createdBy: owner.userId }]);
    expect((await list(newId("user"))).data).toEqual([]);
    expect((await list("somebody")).error).toMatchObject({ code: "input_invalid", details: [{ path: "createdBy" }] });
  });
});
