import { createHash } from "node:crypto";
import { beforeEach, describe, expect, test } from "vitest";
import { serviceToken, startTestApp, until } from "../support/app.ts";
import { mp3Frame, wavFile } from "../support/audio.ts";
import { expectSoundBooks, hurry, postingsOf, queueSystemJob, storyOf, waitingJobs } from "../support/calls.ts";
import { cloneOf, inState, priceClones, sendSample, upstreamOf, voiceRow } from "../support/voices.ts";

const h = await startTestApp({ workers: true });
const price = await priceClones(h);
const service = { key: serviceToken };
const nobodys = "voice_01m82knxfbfrssk0x3en012rbf";

beforeEach(async () => {
  await h.simulator.faults({});
  await h.simulator.control("voices/limit", { allowed: null, cloneSeconds: 0 });
});

const elevenlabs = { type: "external", provider: "elevenlabs", voiceId: "21m00Tcm4TlvDq8ikWAM" };
const create = (body: object, ask = {}) => h.post("/voices", body, ask);
const failing = (create: object) => h.simulator.faults({ create, applyTo: "voices" });
const posted = async (): Promise<number> => (await h.simulator.status()).requests["POST /api/voices"] ?? 0;
const said = (id: string) => storyOf(h, id).then((story) => story.map((type) => type.replace("voice.", "")));

async function clone(more: object = {}, bytes?: Buffer): Promise<string> {
  const { status, body } = await create({ ...cloneOf(await sendSample(h, bytes)), ...more });
  expect(status, JSON.stringify(body)).toBe(202);
  expect(body.data.status).toBe("pending");
  return body.data.id;
}

async function external(source: object = {}, more: object = {}): Promise<string> {
  const { status, body } = await create({ name: "Rachel", ...more, source: { ...elevenlabs, ...source } });
  expect(status, JSON.stringify(body)).toBe(202);
  return body.data.id;
}

const spent = async (id: string) => {
  const postings = await postingsOf(h, id);
  return [postings.map(([kind]) => kind), postings.reduce((sum, [, available]) => sum + available, 0)];
};
const charged = [["hold", "settlement"], -price];
const givenBack = [["hold", "release"], 0];

describe("a clone", () => {
  test("is created from samples: credits are held, then debited, with events in order", async () => {
    const wav = wavFile(Buffer.from("the voice of ada"));
    const id = await clone({ description: "Calm", language: "en-GB", metadata: { crm: "7" } }, wav);
    await inState(h, id, "active");
    const { status, body } = await h.get(`/voices/${id}`);
    expect(status).toBe(200);
    expect(body.data).toMatchObject({
      ...{ id, name: "Ada", description: "Calm", language: "en-GB", metadata: { crm: "7" } },
      ...{ kind: "clone", provider: "ultravox", status: "active", statusReason: null },
      source: { type: "clone", fileIds: [expect.stringMatching(/^file_/)] },
    });
    const [there, ...others] = await upstreamOf(h, id);
    expect(others).toEqual([]);
    expect(there).toMatchObject({ account: "platform", primaryLanguage: "en-GB" });
    expect(there?.sample).toEqual({ bytes: wav.length, sha256: createHash("sha256").update(wav).digest("hex") });
    expect(await said(id)).toEqual(["created", "training.started", "training.completed"]);
    expect(await spent(id)).toEqual(charged);
    await until(async () => {
      const runs = await h.owner`select status from workflow_runs where subject_id = ${id}`;
      return runs.map(({ status }) => status).join() === "succeeded";
    });
    await expectSoundBooks(h);
  });

  test("of several samples is one upload of all their audio", async () => {
    const parts = ["first ", "second", "third "].map((text) => wavFile(Buffer.from(text)));
    const fileIds = await Promise.all(parts.map((bytes) => sendSample(h, bytes)));
    const { body } = await create(cloneOf(...fileIds));
    await inState(h, body.data.id, "active");
    const sha256 = createHash("sha256")
      .update(wavFile(Buffer.from("first secondthird ")))
      .digest("hex");
    expect((await upstreamOf(h, body.data.id)).map(({ sample }) => sample?.sha256)).toEqual([sha256]);
  });

  test("with invalid or different samples fails with a message before anything is uploaded", async () => {
    const before = await posted();
    const text = await clone({}, Buffer.from("this is a text and no voice at all"));
    expect((await inState(h, text, "failed")).status_reason).toBe("sample.wav is neither a WAV nor an MP3.");
    const mp3 = Buffer.concat([mp3Frame(1), mp3Frame(2)]);
    const mixed = [await sendSample(h), await sendSample(h, mp3, { fileName: "b.mp3", contentType: "audio/mpeg" })];
    const { body } = await create(cloneOf(...mixed));
    expect((await inState(h, body.data.id, "failed")).status_reason).toContain("have different formats");
    for (const id of [text, body.data.id]) {
      expect(await said(id)).toEqual(["created", "training.failed"]);
      expect(await spent(id)).toEqual(givenBack);
    }
    expect(await posted()).toBe(before);
  });

  test("that the provider refuses fails with its reason, and the credits are released", async () => {
    await h.simulator.control("voices/limit", { allowed: 0 });
    const id = await clone();
    expect((await inState(h, id, "failed")).status_reason).toContain("number of cloned voices");
    expect(await said(id)).toEqual(["created", "training.started", "training.failed"]);
    expect(await spent(id)).toEqual(givenBack);
    expect(await upstreamOf(h, id)).toEqual([]);
  });

  test.each([
    ["the connection breaks", { resetAfterAccepting: 1 }],
    ["the provider answers 500", { errors: [{ status: 500, times: 1, afterAccepting: true }] }],
  ])("is uploaded once, although %s after the provider has created it", async (_, fault) => {
    await failing(fault);
    const before = await posted();
    const id = await clone();
    await inState(h, id, "active");
    expect((await posted()) - before).toBe(1);
    expect(await upstreamOf(h, id)).toHaveLength(1);
    expect(await spent(id)).toEqual(charged);
    expect(await said(id)).toEqual(["created", "training.started", "training.completed"]);
  });

  test("is retried if nothing was created, and adopts a voice that appears late", async () => {
    await failing({ errors: [{ status: 502, times: 2 }] });
    const before = await posted();
    const id = await clone();
    await inState(h, id, "active");
    expect((await posted()) - before).toBe(3);
    expect(await upstreamOf(h, id)).toHaveLength(1);
    expect(await spent(id)).toEqual(charged);
  });

  test("whose every attempt fails is failed: the credits are released, and a late voice is removed", async () => {
    await failing({ errors: [{ status: 502, times: 100 }] });
    const id = await clone();
    const { status_reason } = await inState(h, id, "failed", 30);
    expect(status_reason).toContain("502");
    expect(await spent(id)).toEqual(givenBack);
    await failing({});
    const form = new FormData();
    form.set("file", new File(["RIFF"], "late.wav"));
    form.set("name", id);
    const apiKey = h.env.ULTRAVOX_API_KEY;
    const late = await fetch(`${h.simulator.url}/api/voices`, {
      method: "POST",
      headers: { "x-api-key": apiKey },
      body: form,
    });
    expect(late.status).toBe(201);
    await hurry(h, "voices.clear");
    await until(async () => (await upstreamOf(h, id)).length === 0);
    const again = await until(async () => {
      const jobs = await waitingJobs(h, "voices.clear");
      return jobs.find(({ payload }) => payload.body.voiceId === id && payload.body.looksLeft === 1);
    });
    expect(again.run_at.getTime(), "the second look comes well after the first").toBeGreaterThan(Date.now() + 300_000);
    expect(await said(id)).toEqual(["created", "training.started", "training.failed"]);
  });

  test("without enough credits is not started, and its samples stay usable", async () => {
    const poor = h.bob;
    await priceClones(h, 5_000_000_000);
    const fileId = await sendSample(h, undefined, { key: poor.key });
    const { status, body } = await create(cloneOf(fileId), { key: poor.key });
    await priceClones(h);
    expect([status, body.error.code]).toEqual([402, "credits_insufficient"]);
    expect((await h.get("/voices", { key: poor.key })).body.data).toEqual([]);
    const again = await create(cloneOf(fileId), { key: poor.key });
    expect(again.status).toBe(202);
    await inState(h, again.body.data.id, "active");
  });

  test("without a price holds no credits", async () => {
    await priceClones(h, 0);
    const id = await clone();
    await inState(h, id, "active");
    await priceClones(h);
    expect(await spent(id)).toEqual([[], 0]);
  });

  test("requested twice with one key is one voice, charged once", async () => {
    const order = cloneOf(await sendSample(h));
    const [one, two] = await Promise.all([1, 2].map(() => create(order, { idempotencyKey: "clone-once" })));
    const again = await until(async () => {
      const answer = await create(order, { idempotencyKey: "clone-once" });
      return answer.status === 202 ? answer : null;
    });
    const ids = [one, two, again].filter((answer) => answer?.status === 202).map((answer) => answer!.body.data.id);
    expect(new Set(ids).size).toBe(1);
    await inState(h, ids[0], "active");
    expect(await spent(ids[0])).toEqual(charged);
  });

  test("accepts only existing, unused samples of the same client", async () => {
    const unsent = await h.post("/voices/files/presign", {
      files: [
        { fileName: "a.wav", contentType: "audio/wav", bytes: 10, sha256: createHash("sha256").digest("base64") },
      ],
    });
    const waiting = unsent.body.data.files[0].id;
    const used = await sendSample(h);
    expect((await create(cloneOf(used))).status).toBe(202);
    const strangers = await sendSample(h, undefined, { key: h.bob.key });
    const codes = await Promise.all(
      [[waiting], [used], [strangers], [await sendSample(h), strangers]].map(async (ids) => {
        const { status, body } = await create(cloneOf(...ids));
        return [status, body.error.code];
      }),
    );
    expect(codes).toEqual([
      [409, "upload_not_complete"],
      [404, "upload_not_found"],
      [404, "upload_not_found"],
      [404, "upload_not_found"],
    ]);
    const large = await Promise.all([1, 2].map(() => sendSample(h, wavFile(5_500_000))));
    const tooMuch = await create(cloneOf(...large));
    expect([tooMuch.status, tooMuch.body.error.details[0].path]).toEqual([400, "source.fileIds"]);
    const both = cloneOf(await sendSample(h));
    const answers = await Promise.all([create(both), create(both)]);
    expect(answers.map(({ status }) => status).sort()).toEqual([202, 404]);
  });
});

describe("a voice of another vendor", () => {
  test("is registered under our id with the account's shared keys, and costs nothing", async () => {
    const id = await external({ model: "eleven_turbo_v2_5", settings: { speed: 1.1 } });
    await inState(h, id, "active");
    const [there] = await upstreamOf(h, id);
    const definition = { voiceId: "21m00Tcm4TlvDq8ikWAM", model: "eleven_turbo_v2_5", speed: 1.1 };
    expect(there).toMatchObject({ definition: { elevenLabs: definition } });
    expect(await said(id)).toEqual(["created", "training.started", "training.completed"]);
    expect(await spent(id)).toEqual([[], 0]);
  });

  test("of a generic speech API keeps its headers sealed: no row, response or audit shows them", async () => {
    const secret = "generic-header-canary-0123456789";
    const generic = {
      url: "https://tts.example.com/speak",
      headers: { Authorization: `Bearer ${secret}` },
      body: { text: "{text}", voice: "ada" },
      jsonAudioFieldPath: "audio",
      jsonByteEncoding: "hex",
    };
    const source = { type: "external", provider: "generic", generic };
    const made = await create({ name: "Own", source }, { idempotencyKey: "own-api" });
    expect(made.status).toBe(202);
    await inState(h, made.body.data.id, "active");
    const [there] = await upstreamOf(h, made.body.data.id);
    expect(there?.definition.generic).toMatchObject({
      headers: { Authorization: `Bearer ${secret}` },
      jsonByteEncoding: "JSON_BYTE_ENCODING_HEX",
    });
    const shown = await h.get(`/voices/${made.body.data.id}`);
    expect(shown.body.data.source.generic).toEqual({ ...generic, headers: undefined });
    const rows = await h.owner`
      select (select json_agg(v) from voices v)::text || (select json_agg(a) from audit_log a)::text
        || (select json_agg(e) from events e)::text || (select json_agg(w) from workflow_runs w)::text as everything`;
    expect(rows[0]!.everything).not.toContain(secret);
    expect(JSON.stringify([made.body, shown.body])).not.toContain(secret);
  });

  test("uses the client's own key if there is one, and no row contains it", async () => {
    const apiKey = "own-elevenlabs-key-0123456789";
    const saved = await h.send("PUT", "/auth/providers/elevenlabs", { secret: { apiKey } });
    expect(saved.status, JSON.stringify(saved.body)).toBe(200);
    const id = await external({ settings: { stability: 0.5, useSpeakerBoost: true } });
    const row = await inState(h, id, "active");
    expect(JSON.stringify(row)).not.toContain(apiKey);
    const [there] = await upstreamOf(h, id);
    expect(there?.definition).toMatchObject({
      generic: {
        url: "https://api.elevenlabs.io/v1/text-to-speech/21m00Tcm4TlvDq8ikWAM/stream?output_format=pcm_24000",
        headers: { "xi-api-key": apiKey },
        body: { text: "{text}", voice_settings: { stability: 0.5, use_speaker_boost: true } },
        responseSampleRate: 24_000,
      },
    });
    const other = "own-elevenlabs-key-changed-987";
    await h.send("PUT", "/auth/providers/elevenlabs", { secret: { apiKey: other } });
    const keyNow = async () => (await upstreamOf(h, id))[0]?.definition.generic?.headers?.["xi-api-key"];
    await until(async () => (await keyNow()) === other);
    const unknown = await external({ voiceId: "missing-one" });
    const reason = (await inState(h, unknown, "failed")).status_reason;
    expect(reason).toBe("elevenlabs has no voice missing-one for your key.");
    expect((await h.remove("/auth/providers/elevenlabs?force=true")).status).toBe(204);
    await until(async () => Object.keys((await upstreamOf(h, id))[0]!.definition).join() === "elevenLabs");
  });

  test("is registered once, although the connection breaks after the provider has it", async () => {
    await failing({ resetAfterAccepting: 1 });
    const before = await posted();
    const id = await external();
    await inState(h, id, "active");
    expect([(await posted()) - before, (await upstreamOf(h, id)).length]).toEqual([1, 1]);
  });

  test("is refused field by field if the source is not valid", async () => {
    const of = async (source: object) => {
      const { status, body } = await create({ name: "X", source: { ...elevenlabs, ...source } });
      expect(status).toBe(400);
      return body.error.details.map(({ path }: { path: string }) => path);
    };
    expect(await of({ settings: { speed: 3 } })).toEqual(["source.settings.speed"]);
    expect(await of({ settings: { pitch: 1 } })).toEqual(["source.settings.pitch"]);
    expect(await of({ voiceId: undefined })).toEqual(["source.voiceId"]);
    expect(await of({ provider: "google", model: "x" })).toEqual(["source.model"]);
    const generic = { url: "https://tts.example.com", body: { text: "{text}" } };
    expect(await of({ generic })).toEqual(["source.generic"]);
    expect(await of({ provider: "generic", voiceId: undefined })).toEqual(["source.generic"]);
    const bad = async (more: object) =>
      of({ provider: "generic", voiceId: undefined, generic: { ...generic, ...more } });
    expect(await bad({ body: { text: "hello" } })).toEqual(["source.generic.body"]);
    expect(await bad({ url: "http://tts.example.com" })).toEqual(["source.generic.url"]);
    expect(await bad({ url: "https://user:pass@tts.example.com" })).toEqual(["source.generic.url"]);
  });
});

describe("an active voice", () => {
  test("can be previewed; a failed preview has a reason, and an inactive voice causes no request", async () => {
    const id = await external();
    await inState(h, id, "active");
    for (const recordings of ["inline", "redirect"] as const) {
      await h.simulator.faults({ recordings });
      const response = await fetch(`${h.url}/api/v1/voices/${id}/preview`, {
        headers: { authorization: `Bearer ${h.ada.key}` },
      });
      expect([response.status, response.headers.get("content-type")]).toEqual([200, "audio/wav"]);
      const bytes = Buffer.from(await response.arrayBuffer());
      expect([bytes.toString("latin1", 0, 4), bytes.length]).toEqual(["RIFF", 16_044]);
    }
    const generic = { url: "https://tts.example.com/broken", body: { text: "{text}" } };
    const mute = await external({ provider: "generic", voiceId: undefined, generic });
    await inState(h, mute, "active");
    const silent = await h.get(`/voices/${mute}/preview`);
    expect([silent.status, silent.body.error.code]).toEqual([422, "provider_rejected"]);
    expect(silent.body.error.message).toContain("status 500");
    const failed = await clone({}, Buffer.from("no sound at all"));
    await inState(h, failed, "failed");
    const dumb = await h.get(`/voices/${failed}/preview`);
    expect([dumb.status, dumb.body.error.code]).toEqual([409, "voice_not_active"]);
  });

  test("is changed here immediately, and at the provider later", async () => {
    const id = await clone();
    await inState(h, id, "active");
    const changed = await h.patch(`/voices/${id}`, { name: "Bea", language: "fr", metadata: { a: "1" } });
    expect(changed.body.data).toMatchObject({ name: "Bea", language: "fr", metadata: { a: "1" } });
    await until(async () => (await upstreamOf(h, id))[0]?.primaryLanguage === "fr");
    const same = await h.patch(`/voices/${id}`, { name: "Bea" });
    expect(same.body.data.updatedAt).toBe(changed.body.data.updatedAt);
    expect(await said(id)).toEqual(["created", "training.started", "training.completed", "updated"]);
  });

  test("that agents use is deleted only by force, and the error names the agents", async () => {
    const id = await external();
    await inState(h, id, "active");
    const agent = await h.post("/agents", { name: "Reception", systemPrompt: "Be brief." });
    const agentId = agent.body.data.id;
    await h.owner`insert into agent_uses (client_id, agent_id, kind, target_id)
      values (${h.ada.clientId}, ${agentId}, 'voice', ${id}) on conflict do nothing`;
    const refused = await h.remove(`/voices/${id}`);
    expect([refused.status, refused.body.error.code]).toEqual([409, "voice_in_use"]);
    expect(refused.body.error.details).toEqual([
      { path: "agent", id: agentId, name: "Reception", message: "The agent Reception uses this voice." },
    ]);
    expect((await h.remove(`/voices/${id}?force=true`)).status).toBe(204);
    expect((await h.get(`/voices/${id}`)).status).toBe(404);
    await until(async () => (await upstreamOf(h, id)).length === 0);
    expect((await said(id)).at(-1)).toBe("deleted");
    expect((await h.remove(`/voices/${id}`)).status).toBe(404);
  });

  test("is deleted with its samples, and its credits stay debited", async () => {
    const id = await clone();
    await inState(h, id, "active");
    const [fileId] = (await h.get(`/voices/${id}`)).body.data.source.fileIds;
    expect((await h.remove(`/voices/${id}`)).status).toBe(204);
    const key = `${h.ada.clientId}/voice_sample/${fileId}`;
    const soon = () => ({ signal: AbortSignal.timeout(30_000) });
    await until(async () => (await h.deps.providers.files.head(key, soon())) === null);
    expect(await spent(id)).toEqual(charged);
  });

  test("is found by its filters, page by page, and only by its client", async () => {
    const metadata = { of: "the list" };
    const names = ["Zoe one", "ZOE two", "zoe_three"];
    const ids: string[] = [];
    for (const name of names) ids.push(await external({ provider: "lmnt" }, { name, language: "de", metadata }));
    await Promise.all(ids.map((id) => inState(h, id, "active")));
    const filter = "metadata=of:the%20list&status=active&kind=external&provider=lmnt&language=DE&search=zoe";
    const first = await h.get(`/voices?${filter}&limit=2`);
    expect(first.body.data.map(({ id }: { id: string }) => id)).toEqual([ids[2], ids[1]]);
    const rest = await h.get(`/voices?${filter}&limit=2&cursor=${first.body.meta.nextCursor}`);
    expect(rest.body.data.map(({ id }: { id: string }) => id)).toEqual([ids[0]]);
    const none = await Promise.all(
      ["search=%25", "search=zoe_t%25", "language=en&search=zoe", "kind=clone&search=zoe", "metadata=of:none"].map(
        (q) => h.get(`/voices?${q}`),
      ),
    );
    expect(none.map(({ body }) => body.data.length)).toEqual([0, 0, 0, 0, 0]);
    expect((await h.get(`/voices?${filter}`, { key: h.bob.key })).body.data).toEqual([]);
  });
});

describe("a voice in training", () => {
  test("can be deleted: the credits are released, and the provider's voice is removed", async () => {
    await failing({ timeoutAfterAccepting: 1, holdMs: 1_500 });
    const id = await clone();
    await until(async () => (await upstreamOf(h, id)).length === 1);
    const busy = await h.patch(`/voices/${id}`, { language: "fr" });
    expect([busy.status, busy.body.error.code]).toEqual([409, "voice_busy"]);
    expect((await h.remove(`/voices/${id}`)).status).toBe(204);
    expect(await spent(id)).toEqual(givenBack);
    await hurry(h, "voices.clear");
    await until(async () => (await upstreamOf(h, id)).length === 0);
    await until(async () => {
      await hurry(h, "workflows.advance");
      return (await waitingJobs(h, "workflows.advance")).length === 0;
    });
    expect((await voiceRow(h, id)).status).toBe("deleted");
    expect(await said(id)).toEqual(["created", "training.started", "deleted"]);
    expect(await spent(id)).toEqual(givenBack);
    await expectSoundBooks(h);
  });

  test("that is deleted, or finished by a service, before the provider responds: the late voice is removed", async () => {
    const { ultravox } = h.deps.providers;
    const { cloneVoice } = ultravox;
    const gate = Promise.withResolvers<void>();
    ultravox.cloneVoice = async (...asked) => {
      const made = await cloneVoice(...asked);
      await gate.promise;
      return made;
    };
    const inTheMaking = async () => {
      const id = await clone();
      await until(async () => (await upstreamOf(h, id)).length === 1);
      return id;
    };
    let [deleted, overtaken] = ["", ""];
    try {
      deleted = await inTheMaking();
      overtaken = await inTheMaking();
      expect((await h.remove(`/voices/${deleted}`)).status).toBe(204);
      const report = { status: "active", providerVoiceId: "made-elsewhere" };
      expect((await h.post(`/internal/voices/${overtaken}/update-status`, report, service)).status).toBe(200);
      expect((await upstreamOf(h, overtaken)).length).toBe(1);
    } finally {
      gate.resolve();
      ultravox.cloneVoice = cloneVoice;
    }
    for (const id of [deleted, overtaken]) await until(async () => (await upstreamOf(h, id)).length === 0);
    expect(await voiceRow(h, deleted)).toMatchObject({ status: "deleted", provider_voice_id: null });
    expect(await voiceRow(h, overtaken)).toMatchObject({ status: "active", provider_voice_id: "made-elsewhere" });
    expect([await spent(deleted), await spent(overtaken)]).toEqual([givenBack, charged]);
    await expectSoundBooks(h);
  });

  test("can be driven by a service: once, in order, and our workflow ends", async () => {
    await failing({ errors: [{ status: 502, times: 100 }] });
    const id = await clone();
    await until(async () => (await voiceRow(h, id)).status === "training");
    const report = (status: string, more = {}) =>
      h.post(`/internal/voices/${id}/update-status`, { status, ...more }, service);
    expect((await report("training")).body.data.status).toBe("training");
    const nameless = await report("active");
    expect([nameless.status, nameless.body.error.details[0].path]).toEqual([400, "providerVoiceId"]);
    const providerVoiceId = "11111111-2222-4333-8444-555555555555";
    const both = await Promise.all([report("active", { providerVoiceId }), report("active", { providerVoiceId })]);
    expect(both.map(({ status, body }) => [status, body.data.status])).toEqual([
      [200, "active"],
      [200, "active"],
    ]);
    expect(await spent(id)).toEqual(charged);
    const other = await report("active", { providerVoiceId: "another" });
    expect([other.status, other.body.error.code]).toEqual([409, "voice_transition_invalid"]);
    expect((await report("training")).status).toBe(409);
    const runs = await h.owner`select status from workflow_runs where subject_id = ${id}`;
    expect(runs.map(({ status }) => status)).toEqual(["succeeded"]);
    expect(await said(id)).toEqual(["created", "training.started", "training.completed"]);
  });

  test("that a service fails releases its credits, and only a service may do that", async () => {
    await failing({ errors: [{ status: 502, times: 100 }] });
    const id = await clone();
    const path = `/internal/voices/${id}/update-status`;
    expect((await h.post(path, { status: "failed" })).status).toBe(403);
    const failed = await h.post(path, { status: "failed", reason: "Two speakers." }, service);
    expect(failed.body.data).toMatchObject({ status: "failed", statusReason: "Two speakers." });
    expect(await spent(id)).toEqual(givenBack);
    const back = await h.post(path, { status: "active", providerVoiceId: "x" }, service);
    expect([back.status, back.body.error.code]).toEqual([409, "voice_transition_invalid"]);
    const unknown = await h.post(`/internal/voices/${nobodys}/update-status`, { status: "failed" }, service);
    expect([unknown.status, unknown.body.error.code]).toEqual([404, "voice_not_found"]);
  });
});

describe("the sweep", () => {
  const sweep = () => queueSystemJob(h, "voices.sweep");

  test("adopts or fails a voice that its workflow abandoned", async () => {
    await failing({ timeoutAfterAccepting: 1, holdMs: 1_000 });
    const made = await clone();
    await until(async () => (await upstreamOf(h, made)).length === 1);
    await failing({ errors: [{ status: 502, times: 100 }] });
    const unmade = await clone();
    await until(async () => (await voiceRow(h, unmade)).status === "training");
    for (const id of [made, unmade]) {
      await h.owner`update workflow_runs set status = 'failed' where subject_id = ${id}`;
      await h.owner`update voices set updated_at = now() - interval '10 minutes' where id = ${id}`;
    }
    await sweep();
    const checked = async (id: string, status: string) => {
      await hurry(h, "voices.check");
      return (await voiceRow(h, id)).status === status;
    };
    await until(() => checked(made, "active"));
    await until(() => checked(unmade, "failed"));
    expect(await spent(made)).toEqual(charged);
    expect(await spent(unmade)).toEqual(givenBack);
    expect((await voiceRow(h, unmade)).status_reason).toContain("ended without a result");
  });

  test("finds an active voice that the provider lost, once a day, and leaves the others", async () => {
    const [gone, there] = [await clone(), await clone()];
    const rows = await Promise.all([gone, there].map((id) => inState(h, id, "active")));
    const url = `${h.simulator.url}/api/voices/${rows[0]!.provider_voice_id}`;
    await fetch(url, { method: "DELETE", headers: { "x-api-key": h.env.ULTRAVOX_API_KEY } });
    await sweep();
    await until(async () => (await waitingJobs(h, "voices.sweep")).length === 0);
    const { checked_at: seen } = await voiceRow(h, gone);
    expect(seen, "looked at today already").toEqual(rows[0]!.checked_at);
    await h.owner`update voices set checked_at = now() - interval '25 hours'`;
    await sweep();
    const row = await until(async () => {
      const now = await voiceRow(h, gone);
      return now.status === "failed" ? now : null;
    });
    expect(row.status_reason).toMatch(/^The voice provider no longer has this voice/);
    expect((await said(gone)).at(-1)).toBe("updated");
    expect(await spent(gone)).toEqual(charged);
    await until(async () => (await waitingJobs(h, "voices.check")).length === 0);
    expect((await voiceRow(h, there)).status).toBe("active");
  });
});
