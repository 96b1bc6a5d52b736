import { afterEach, describe, expect, test } from "vitest";
import { newId } from "../../db/ids.ts";
import { phone, startTestApp } from "../support/app.ts";
import {
  callRow,
  expectSoundBooks,
  finished,
  inTime,
  makeAgent,
  platformAccount,
  postingsOf,
} from "../support/calls.ts";

const h = await startTestApp({ workers: true, credits: 10_000 });
const provider = h.deps.providers.ultravox;
const to = "+14155550100";

afterEach(() => h.simulator.faults({}));

/** The request that the provider received for this call. */
async function requestFor(id: string) {
  const { requests } = await h.simulator.requests();
  const found = requests.find(
    ({ method, path, body }: { method: string; path: string; body?: { metadata?: { callId?: string } } }) =>
      method === "POST" && path.endsWith("/calls") && body?.metadata?.callId === id,
  );
  return found as { path: string; body: Record<string, never> & { medium: object } };
}

const place = async (agentId: string, more: object = {}) => {
  const { status, body } = await h.post("/calls", { agentId, medium: phone(to), ...more });
  if (status !== 201) throw new Error(JSON.stringify(body));
  return body.data;
};

const refusal = async (agentId: string, more: object) => {
  const { status, body } = await h.post("/calls", { agentId, medium: phone(to), ...more });
  return { status, code: body.error?.code, path: body.error?.details?.[0]?.path, message: body.error?.message };
};

async function sealSecret(provider: string, secret: object, details: object = {}) {
  const id = newId("credential");
  const cipher = await h.deps.providers.vault.keys(h.ada.clientId, "provider_credential");
  const sealed = cipher.seal(JSON.stringify(secret), id);
  await h.owner`insert into credentials (client_id, id, provider, prefix, sealed, details, status)
    values (${h.ada.clientId}, ${id}, ${provider}, 'abc', ${sealed}, ${h.owner.json(details as never)}, 'verified')`;
  return id;
}

describe("variables", () => {
  test("are checked against the agent's declaration, and each error names its variable", async () => {
    const agentId = await makeAgent(h, {
      systemPrompt: "Greet {{name}}, who is {{age}}.",
      variables: [
        { name: "name", type: "string" },
        { name: "age", type: "number", required: false, default: 40 },
      ],
    });
    expect(await refusal(agentId, { variables: {} })).toMatchObject({ status: 400, path: "variables.name" });
    expect(await refusal(agentId, { variables: { name: 3 } })).toMatchObject({ status: 400, path: "variables.name" });
    expect(await refusal(agentId, { variables: { name: "Ada", colour: "red" } })).toMatchObject({
      status: 400,
      code: "input_invalid",
      path: "variables.colour",
    });
    const call = await place(agentId, { variables: { name: "Ada" } });
    expect(call.variables).toEqual({ name: "Ada", age: 40 });
    expect((await requestFor(call.id)).body).toMatchObject({ templateContext: { name: "Ada", age: 40 } });
  });

  test("an agent without declarations needs the variables of its prompt, and accepts no others", async () => {
    const agentId = await makeAgent(h, { systemPrompt: "Greet {{name}}." });
    expect(await refusal(agentId, { variables: {} })).toMatchObject({ status: 400, path: "variables.name" });
    expect((await place(agentId, { variables: { name: "Ada" } })).variables).toEqual({ name: "Ada" });
    const plain = await makeAgent(h);
    expect(await refusal(plain, { variables: { name: "Ada" } })).toMatchObject({ status: 400, path: "variables.name" });
  });
});

describe("settings of a call", () => {
  test("are sent to the provider instead of the agent's settings, and returned", async () => {
    const agentId = await makeAgent(h, { greeting: "Hello!", firstSpeaker: "agent", joinTimeoutSeconds: 30 });
    const own = { maxDurationSeconds: 77, joinTimeoutSeconds: 17, recordingEnabled: false };
    const call = await place(agentId, { ...own, greeting: "Good morning!", firstSpeaker: "user" });
    expect(call).toMatchObject(own);
    expect((await requestFor(call.id)).body).toMatchObject({
      maxDuration: "77s",
      joinTimeout: "17s",
      recordingEnabled: false,
      firstSpeakerSettings: { user: { fallback: { text: "Good morning!" } } },
    });
    const first = await place(agentId, { firstSpeaker: "user" });
    expect((await requestFor(first.id)).body).toMatchObject({
      firstSpeakerSettings: { user: { fallback: { text: "Hello!" } } },
    });
    const none = await place(agentId);
    expect((await requestFor(none.id)).body).not.toHaveProperty("firstSpeakerSettings");
    expect((await requestFor(none.id)).body).not.toHaveProperty("voice");
  });

  test("determine its hold", async () => {
    const agentId = await makeAgent(h, { maxDurationSeconds: 600, joinTimeoutSeconds: 30 });
    const call = await place(agentId, { maxDurationSeconds: 54, joinTimeoutSeconds: 6 });
    expect(await postingsOf(h, call.id)).toContainEqual(["hold", -(9_000_000 + 1_500_000)]);
  });

  test("a voice must be active, of the same client and in the agent's account; else the error names the field", async () => {
    const agentId = await makeAgent(h);
    const voice = async (status: string, account = platformAccount, clientId = h.ada.clientId) => {
      const id = newId("voice");
      await h.owner`insert into voices (client_id, id, name, language, kind, provider, status, provider_account_id, provider_voice_id)
        values (${clientId}, ${id}, 'Ada', 'en', 'clone', 'ultravox', ${status}, ${account}, ${`up-${id}`})`;
      return id;
    };
    const voiceId = await voice("active");
    expect((await requestFor((await place(agentId, { voiceId })).id)).body).toMatchObject({ voice: `up-${voiceId}` });
    expect(await refusal(agentId, { voiceId: await voice("training") })).toMatchObject({
      status: 409,
      code: "voice_not_active",
      path: "voiceId",
    });
    expect(await refusal(agentId, { voiceId: await voice("active", "pacc_other") })).toMatchObject({
      status: 409,
      path: "voiceId",
    });
    for (const missing of [
      await voice("active", platformAccount, h.bob.clientId),
      await voice("deleted"),
      newId("voice"),
    ]) {
      expect(await refusal(agentId, { voiceId: missing })).toMatchObject({ status: 404, code: "voice_not_found" });
    }
  });
});

describe("an older version", () => {
  test("is placed without the agent, with its prompt filled in, and is billed and settled like any other", async () => {
    const agentId = await makeAgent(h, {
      systemPrompt: "You are the first. Greet {{name}}, not {{{other}}}.",
      timeExceededMessage: "Time is up, {{name}}.",
      greeting: "Hello!",
    });
    await h.patch(`/agents/${agentId}`, { systemPrompt: "You are the second.", timeExceededMessage: null });
    const call = await place(agentId, {
      agentVersion: 1,
      variables: { name: "Ada {{x}}", other: "Bob" },
      greeting: "Hi!",
    });
    expect(call).toMatchObject({ agentVersion: 1 });
    const request = await requestFor(call.id);
    expect(request.path).toBe("/api/calls");
    expect(request.body).toMatchObject({
      systemPrompt: "You are the first. Greet Ada {{x}}, not Bob.",
      firstSpeakerSettings: { agent: { text: "Hi!" } },
      metadata: { callId: call.id },
    });
    for (const field of ["templateContext", "contextSchema"]) expect(request.body).not.toHaveProperty(field);
    expect(await finished(h, call.id)).toMatchObject({ status: "ended", outcome: "completed", billing_revision: 1 });
    const live = await place(agentId, { agentVersion: 2 });
    expect((await requestFor(live.id)).path).toMatch(/^\/api\/agents\//);
    await expectSoundBooks(h);
  });

  test("that does not exist, or was never live, is refused", async () => {
    const agentId = await makeAgent(h);
    expect(await refusal(agentId, { agentVersion: 9 })).toMatchObject({ status: 404, code: "agent_version_not_found" });
    await h.owner`insert into agent_versions (client_id, agent_id, version, name, config, status, created_by)
      select client_id, agent_id, 2, name, config, 'failed', created_by from agent_versions where agent_id = ${agentId}`;
    expect(await refusal(agentId, { agentVersion: 2 })).toMatchObject({ status: 409, code: "agent_version_not_live" });
  });
});

describe("the medium", () => {
  test("carrier and number default to the client's, and the error names a missing number", async () => {
    const agentId = await makeAgent(h);
    const medium = { type: "phone", to };
    expect(await refusal(agentId, { medium })).toMatchObject({ status: 400, path: "medium.from" });
    await h.owner`insert into telephony_configs (client_id, default_carrier, default_from)
      values (${h.ada.clientId}, 'twilio', '+14155550177')`;
    expect(await place(agentId, { medium })).toMatchObject({ carrier: "twilio", from: "+14155550177", to });
    const own = await place(agentId, { medium: { ...phone(to), carrier: "plivo" } });
    expect(own).toMatchObject({ carrier: "plivo", from: "+14155550199" });
    expect((await requestFor(own.id)).body.medium).toEqual({ plivo: { outgoing: { to, from: "+14155550199" } } });
    await h.owner`delete from telephony_configs`;
    expect(await place(agentId)).toMatchObject({ carrier: "sip" });
  });

  test("a SIP address is dialled unchanged, and over SIP only", async () => {
    const agentId = await makeAgent(h);
    const address = "sip:reception@pbx.example.com:5061;transport=tls";
    const call = await place(agentId, { medium: phone(address) });
    expect((await requestFor(call.id)).body.medium).toEqual({
      sip: { outgoing: { to: address, from: "sip:+14155550199@trunk.example" } },
    });
    expect((await h.get(`/calls?to=${encodeURIComponent(address)}`)).body.data).toMatchObject([{ id: call.id }]);
    expect(await refusal(agentId, { medium: { ...phone(address), carrier: "twilio" } })).toMatchObject({
      status: 400,
      path: "medium.to",
    });
    for (const invalid of [
      "sip:",
      "sip:a b@x",
      "sip:a@x\r\nVia: y",
      "mailto:a@x",
      "14155550100",
      "sip:a@x>;evil",
      "+1",
    ]) {
      expect([invalid, (await refusal(agentId, { medium: phone(invalid) })).status]).toEqual([invalid, 400]);
    }
  });

  test("the client's trunk overrides the installation's, and its password is sent to its host only", async () => {
    const agentId = await makeAgent(h);
    await sealSecret("sip", { host: "own.example", username: "ada", password: "canary-trunk-password" });
    const call = await place(agentId);
    expect(call).toMatchObject({ to, from: "+14155550199" });
    const { requests } = await h.simulator.requests();
    const sent = JSON.stringify(requests.findLast(({ path }: { path: string }) => path.endsWith("/calls")));
    expect(sent).toContain(`sip:${to}@own.example`);
    expect(await provider.findCalls(platformAccount, call.id, new Date(Date.now() - 60_000), inTime())).toHaveLength(1);
    expect((await requestFor(call.id)).body.medium).toMatchObject({
      sip: { outgoing: { to: `sip:${to}@own.example`, from: "sip:+14155550199@own.example", username: "ada" } },
    });
    const elsewhere = await place(agentId, { medium: phone("sip:ada@evil.example") });
    expect((await requestFor(elsewhere.id)).body.medium).toEqual({
      sip: { outgoing: { to: "sip:ada@evil.example", from: "sip:+14155550199@own.example" } },
    });
    const stored =
      await h.owner`select to_jsonb(c)::text || (select coalesce(string_agg(to_jsonb(a)::text, ''), '') from audit_log a) as text
      from calls c where c.id = ${call.id}`;
    expect(stored[0]!.text).not.toContain("canary-trunk-password");
    // The calls of another client use the installation's trunk.
    const bobs = await makeAgent(h, {}, h.bob.key);
    const bobsCall = await h.post("/calls", { agentId: bobs, medium: phone(to) }, { key: h.bob.key });
    expect((await requestFor(bobsCall.body.data.id)).body.medium).toMatchObject({
      sip: { outgoing: { to: `sip:${to}@trunk.example` } },
    });
    await h.owner`update credentials set sealed = '\\x00' where provider = 'sip'`;
    const broken = await h.post("/calls", { agentId, medium: phone(to) });
    expect(broken).toMatchObject({ status: 503, body: { error: { code: "provider_unavailable" } } });
    await h.owner`delete from credentials`;
    const [failed] = await h.owner`select status from calls order by id desc limit 1`;
    expect(failed).toMatchObject({ status: "failed" });
    await expectSoundBooks(h);
  });

  test("an agent with transfer targets holds the line twice", async () => {
    const target = { name: "sales", description: "Prices.", to: "+14155550123" };
    const agentId = await makeAgent(h, { transferTargets: [target] });
    const call = await place(agentId, { maxDurationSeconds: 54, joinTimeoutSeconds: 6 });
    expect(await postingsOf(h, call.id)).toContainEqual(["hold", -(9_000_000 + 2 * 1_500_000)]);
  });

  test.each([
    ["warmTransfer", 2],
    ["coldTransfer", 2],
    ["playDtmfSounds", 1],
  ])("an agent with the provider's %s as a tool holds the line at %i times its rate", async (name, legs) => {
    const parameterOverrides = legs > 1 ? { target: "+14155550123" } : {};
    const definition = { type: "builtin", name, parameterOverrides };
    const tool = await h.post("/tools", { name: `own_${name}`, description: "To sales.", definition });
    expect(tool).toMatchObject({ status: 201 });
    const agentId = await makeAgent(h, { tools: [{ toolId: tool.body.data.id }] });
    const limits = { maxDurationSeconds: 54, joinTimeoutSeconds: 6 };
    const call = await place(agentId, limits);
    expect(await postingsOf(h, call.id)).toContainEqual(["hold", -(9_000_000 + legs * 1_500_000)]);
    const web = await place(agentId, { ...limits, medium: { type: "web" } });
    expect(await postingsOf(h, web.id), "a web call has no second leg").toContainEqual(["hold", -9_000_000]);
  });
});

test("a call can be found by its metadata immediately, and a refused call leaves no metadata", async () => {
  const agentId = await makeAgent(h);
  const metadata = { order: "k-1", tier: "gold" };
  const call = await place(agentId, { metadata });
  expect((await h.get("/calls?metadata=order:k-1&metadata=tier:gold")).body.data).toMatchObject([{ id: call.id }]);
  expect((await h.get("/calls?metadata=order:k-1&metadata=tier:silver")).body.data).toEqual([]);
  expect((await h.get("/calls?metadata=order:k-1", { key: h.bob.key })).body.data).toEqual([]);
  const rich = { maxDurationSeconds: 14_400, metadata: { order: "k-2" } };
  const refusals = await Promise.all(Array.from({ length: 6 }, () => refusal(agentId, rich)));
  expect(refusals.some(({ code }) => code === "credits_insufficient")).toBe(true);
  const stored =
    await h.owner`select p.call_id from call_pairs p left join calls c on c.id = p.call_id where c.id is null`;
  expect(stored).toEqual([]);
  expect(await callRow(h, call.id)).toMatchObject({ id: call.id });
});
