import { expect, test } from "vitest";
import { voiceCloneNative } from "../../jobs/voices.ts";
import { broughtKeys, startTestApp } from "../support/app.ts";
import { inState, sendSample, upstreamOf, voiceRow } from "../support/voices.ts";

const h = await startTestApp({ env: { PUBLIC_URL: "https://patchbay.example" }, workers: true });
const bobs = { key: h.bob.key };
const put = async (provider: string, secret: object) => {
  const { status, body } = await h.send("PUT", `/auth/providers/${provider}`, { secret }, bobs);
  expect(status, JSON.stringify(body)).toBe(200);
};
const external = async (provider: string) => {
  const source = { type: "external", provider, voiceId: "some-voice" };
  const { status, body } = await h.post("/voices", { name: "Rachel", source }, bobs);
  expect(status, JSON.stringify(body)).toBe(202);
  return body.data.id as string;
};

test("a key that the shared account cannot use for one client fails the voice, with advice", async () => {
  await put("inworld", { apiKey: "own-inworld-key-0123456789" });
  const { status_reason } = await inState(h, await external("inworld"), "failed");
  expect(status_reason).toContain("works only in an Ultravox account of your own");
});

test("in the client's own account the key is set on the account, and the voice is a plain one", async () => {
  const [apiKey] = broughtKeys;
  await put("ultravox", { apiKey });
  await put("elevenlabs", { apiKey: "own-elevenlabs-key-0123456789" });
  const id = await external("elevenlabs");
  await inState(h, id, "active");
  const [there] = await upstreamOf(h, id);
  expect(there?.account).not.toBe("platform");
  expect(there?.definition).toEqual({ elevenLabs: { voiceId: "some-voice" } });
  const answer = await fetch(`${h.simulator.url}/api/accounts/me/tts_api_keys`, { headers: { "x-api-key": apiKey! } });
  expect(await answer.json()).toMatchObject({ elevenLabs: { prefix: expect.stringMatching(/^own-/) } });
  const plain = await external("inworld");
  await inState(h, plain, "active");
  expect((await upstreamOf(h, plain)).map(({ definition }) => Object.keys(definition))).toEqual([["inworld"]]);
  expect((await upstreamOf(h, id)).length, "an account's own voices are not the platform's").toBe(1);
});

test("a workflow that fails late does not fail a voice that is already active", async () => {
  const made = await h.post("/voices", { name: "Ada", source: { type: "clone", fileIds: [await sendSample(h)] } });
  const id = made.body.data.id;
  await inState(h, id, "active");
  const [run] = await h.owner`select * from workflow_runs where subject_id = ${id}`;
  const late = { ...run, subjectId: id } as never;
  await h.deps.db.asClient({ clientId: h.ada.clientId }, (tx) => voiceCloneNative.failed(tx, late, "too late"));
  expect((await voiceRow(h, id)).status).toBe("active");
});
