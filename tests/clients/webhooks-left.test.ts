import { describe, expect, test } from "vitest";
import { startTestApp } from "../support/app.ts";
import { answerOf, idsOf, leavers } from "../support/leavers.ts";

const h = await startTestApp();
const { clientWith, join, makeKey, ways } = leavers(h);

type Hook = { id: string; createdBy: string };
async function makeHook(by: string, body: object = {}): Promise<Hook> {
  const made = await h.post("/webhooks", { url: "https://example.com/hooks", ...body }, { key: by });
  expect(made).toMatchObject({ status: 201 });
  return made.body.data;
}
const hookOf = async ({ token }: { token: string }, { id }: Hook) =>
  (await h.get(`/webhooks/${id}`, { key: token })).body.data;
const eventsOf = async ({ id }: Hook) => (await h.owner`select type from events where subject_id = ${id}`).length;

/** Endpoints of a member: their own, and one that their key created. The others are not listed. */
async function withHooks(role: string) {
  const who = await clientWith(role);
  const key = await makeKey(who.member.token, ["webhooks:write"]);
  const theirs = [await makeHook(who.member.token), await makeHook((await chainOf(who.member.token)).key)];
  theirs.push(await makeHook(key.key));
  const others = await makeHook(who.owner.token);
  await makeHook(who.member.token, { status: "disabled" });
  const deleted = await makeHook(who.member.token);
  await h.remove(`/webhooks/${deleted.id}`, { key: who.owner.token });
  return { ...who, key, theirs, others };
}

/** A key that was created by another key. */
const chainOf = async (by: string) =>
  makeKey((await makeKey(by, ["api_keys:write", "webhooks:write"])).key, ["webhooks:write"]);

describe("webhook endpoints of a member who is removed", () => {
  test.each(Object.entries(ways))("by %s are listed, and stay enabled unless asked otherwise", async (_, remove) => {
    const { owner, member, theirs } = await withHooks("admin");
    const left = answerOf(await remove({ owner, member }));
    expect([idsOf(left.keptWebhooks), left.disabledWebhooks]).toEqual([idsOf(theirs), []]);
    expect(left.keptWebhooks).toContainEqual({
      id: theirs[0]!.id,
      url: "https://example.com/hooks",
      description: null,
      createdBy: member.userId,
    });
    for (const hook of theirs) expect(await hookOf(owner, hook)).toMatchObject({ status: "enabled", missed: null });
  });

  test.each(Object.entries(ways))("by %s are disabled on request, which is audited", async (_, remove) => {
    const { owner, member, key, theirs, others } = await withHooks("admin");
    const left = answerOf(await remove({ owner, member }, { disableWebhooks: true, keepApiKeys: true }));
    expect([idsOf(left.disabledWebhooks), left.keptWebhooks]).toEqual([idsOf(theirs), []]);
    expect(idsOf(left.keptApiKeys)).toContain(key.id);
    for (const hook of theirs) {
      const missed = { createdAfter: expect.any(String), createdBefore: null };
      expect(await hookOf(owner, hook)).toMatchObject({ status: "disabled", disabledCode: "request", missed });
      expect(await eventsOf(hook)).toBe(1);
    }
    expect(await hookOf(owner, others)).toMatchObject({ status: "enabled", disabledCode: null });
    const audit = await h.owner`select input from audit_log
      where client_id = ${owner.clientId} and action in ('clients.members.remove', 'admin.members.remove')`;
    expect(audit).toMatchObject([{ input: { disableWebhooks: true, keepApiKeys: true } }]);
  });

  test("stay as they are in other clients of this person", async () => {
    const [here, there] = [await clientWith("admin"), await clientWith("admin")];
    const guest = await join(there.owner, "admin", here.member.subject);
    expect(guest.userId).toBe(here.member.userId);
    const elsewhere = await makeHook(guest.token);
    const left = answerOf(await ways["an operator over REST"]!(here, { disableWebhooks: true }));
    expect([left.disabledWebhooks, left.keptWebhooks]).toEqual([[], []]);
    expect(await hookOf(there.owner, elsewhere)).toMatchObject({ status: "enabled", createdBy: guest.userId });
  });

  test("cannot be created concurrently and remain enabled", async () => {
    for (let round = 0; round < 4; round++) {
      const { owner, member } = await clientWith("admin");
      const { key } = await makeKey(member.token, ["webhooks:write"]);
      const making = [member.token, key, member.token, key, member.token, key].map((by) =>
        h.post("/webhooks", { url: "https://example.com/late" }, { key: by }),
      );
      const removed = h.remove(`/clients/current/members/${member.id}?disableWebhooks=true`, { key: owner.token });
      for (const { status } of await Promise.all(making)) expect(status).toBeLessThan(500);
      answerOf(await removed);
      const { data } = (await h.get("/webhooks?status=enabled", { key: owner.token })).body;
      expect(data).toEqual([]);
    }
  });
});

describe("webhook endpoints of a member who gets another role", () => {
  test("are listed, and disabled on request if the role cannot create any", async () => {
    for (const [role, choice, isDisabled] of [
      ["member", true, false],
      ["viewer", false, false],
      ["viewer", true, true],
    ] as const) {
      const { owner, member } = await clientWith("admin");
      const hook = await makeHook(member.token);
      const change = { role, disableWebhooks: choice };
      const left = answerOf(await h.patch(`/clients/current/members/${member.id}`, change, { key: owner.token }));
      expect([idsOf(left.disabledWebhooks), idsOf(left.keptWebhooks)]).toEqual(
        isDisabled ? [[hook.id], []] : [[], [hook.id]],
      );
      expect((await hookOf(owner, hook)).status).toBe(isDisabled ? "disabled" : "enabled");
    }
  });
});
