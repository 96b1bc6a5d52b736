import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { startUltravox } from "../../dev/simulators/ultravox/index.ts";
import { ProviderError } from "../../routers/ports/provider-error.ts";
import { genericDefinition, keyedDefinition, plainDefinition } from "../../routers/voices/definition.ts";
import { closeConnections } from "../../server/adapters/http/connections.ts";
import { ultravox } from "../../server/adapters/ultravox/index.ts";
import { ultravoxContract } from "../contract/validator.ts";
import { wavFile } from "../support/audio.ts";

const apiKey = "abcd1234.0123456789abcdef0123456789abcdef";
const id = "voice_0198c5d0a1b2c3d4e5f6a7b8c9";
const contract = ultravoxContract();
let simulator: Awaited<ReturnType<typeof startUltravox>>;
/** What came to a server that only listens, and what it answers. */
const heard: { method: string; url: string; body: string; headers: Record<string, unknown> }[] = [];
let answer: { status: number; body: unknown } = { status: 200, body: {} };

const listener = createServer(async (request, response) => {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  const { method = "", url = "", headers } = request;
  heard.push({ method, url, body: Buffer.concat(chunks).toString("latin1"), headers });
  response.writeHead(answer.status, { "content-type": "application/json" }).end(JSON.stringify(answer.body));
});

beforeAll(async () => {
  simulator = await startUltravox({ seed: 1, accounts: [{ id: "account-1", apiKey, webhooks: [] }] });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
});
beforeEach(async () => {
  heard.length = 0;
  await fetch(`${simulator.url}/_sim/reset`, { method: "POST" });
});
afterAll(async () => {
  await simulator.close();
  listener.closeAllConnections();
  listener.close();
  await closeConnections();
});

type Said = {
  method: string;
  path: string;
  query: Record<string, string[]>;
  body: unknown;
  status: number;
  response: unknown;
};
const soon = () => ({ signal: AbortSignal.timeout(30_000) });
const at = (baseUrl: string) => ultravox({ baseUrl, apiKeyOf: async () => apiKey });
const uv = () => at(simulator.url);
const listening = () => at(`http://127.0.0.1:${(listener.address() as AddressInfo).port}`);
const sample = { bytes: wavFile(2000), fileName: "sample.wav", contentType: "audio/wav" };
const cloneOf = (more: object = {}) => ({ id, sample, language: "en-GB", description: "Calm", ...more });
const failure = (asked: Promise<unknown>) =>
  asked.then(
    () => null,
    (error: ProviderError) => error,
  );

test("a clone is one multipart form of one file, under our id, and is found by it", async () => {
  const made = await uv().cloneVoice("a", cloneOf(), soon());
  expect(made).toMatchObject({ name: id, language: "en-GB", provider: null });
  expect(await uv().findVoices("a", id, soon())).toEqual([made]);
  expect(await uv().getVoice("a", made.providerVoiceId, soon())).toEqual(made);
  const { voices } = (await (await fetch(`${simulator.url}/_sim/voices`)).json()) as { voices: unknown[] };
  expect(voices).toMatchObject([{ name: id, sample: { bytes: sample.bytes.length } }]);
  await uv().deleteVoice("a", made.providerVoiceId, soon());
  await uv().deleteVoice("a", made.providerVoiceId, soon());
  expect(await uv().getVoice("a", made.providerVoiceId, soon())).toBeNull();
  expect(await uv().findVoices("a", id, soon())).toEqual([]);
});

test("the form has the fields that the provider documents, and no others", async () => {
  answer = { status: 201, body: { voiceId: "v", name: id } };
  await listening().cloneVoice("a", cloneOf(), soon());
  const [{ body, headers }] = heard as [(typeof heard)[0]];
  expect(headers["content-type"]).toMatch(/^multipart\/form-data; boundary=/);
  const names = [...body.matchAll(/ name="([^"]+)"/g)].map(([, name]) => name);
  expect(names).toEqual(["file", "name", "language", "description"]);
  expect(body).toContain('filename="sample.wav"');
  expect(body).toContain(sample.bytes.toString("latin1"));
});

test("a name in use, a file too large, and an unsupported format are refused with the provider's message", async () => {
  await uv().cloneVoice("a", cloneOf(), soon());
  const taken = await failure(uv().cloneVoice("a", cloneOf(), soon()));
  expect([taken?.kind, taken?.message]).toEqual(["refused", expect.stringContaining("already exists")]);
  const large = { ...sample, bytes: Buffer.alloc(10_000_001) };
  expect((await failure(uv().cloneVoice("a", cloneOf({ id: "b", sample: large }), soon())))?.message).toContain(
    "10 MB",
  );
  const text = { ...sample, fileName: "sample.txt" };
  expect((await failure(uv().cloneVoice("a", cloneOf({ id: "c", sample: text }), soon())))?.message).toContain(".wav");
});

test.each([
  [500, "unknown"],
  [504, "unknown"],
  [400, "refused"],
  [429, "unavailable"],
  [503, "unknown"],
])("an upload that is answered %i is %s, and is sent once where it may have been made", async (status, kind) => {
  answer = { status, body: { detail: "no" } };
  const error = await failure(listening().cloneVoice("a", cloneOf(), soon()));
  expect(error).toBeInstanceOf(ProviderError);
  expect(error?.kind).toBe(kind);
  expect(heard.length).toBe(kind === "unavailable" ? 3 : 1);
});

test("a registered voice matches the provider's schema, and a refusal contains none of its secrets", async () => {
  const generic = genericDefinition(
    { url: "https://tts.example.com", body: { text: "{text}" }, jsonByteEncoding: "base64", responseSampleRate: 8000 },
    { Authorization: "Bearer very-secret-value" },
  );
  const elevenLabs = { voiceId: "v", model: "m", settings: { speed: 1.1 }, generic: null };
  for (const definition of [generic, plainDefinition("elevenlabs", elevenLabs)]) {
    const made = await uv().registerVoice("a", { id, definition, language: "en", description: null }, soon());
    const change = { language: "fr", description: "x".repeat(300), definition };
    expect(await uv().updateVoice("a", made.providerVoiceId, change, soon())).toMatchObject({ language: "fr" });
    await uv().deleteVoice("a", made.providerVoiceId, soon());
  }
  const { requests } = (await (await fetch(`${simulator.url}/_sim/requests`)).json()) as { requests: Said[] };
  for (const { method, path, query, body, status, response } of requests) {
    expect(contract.request(method, path, undefined, query, body)).toEqual([]);
    expect(contract.response(method, path, status, response)).toEqual([]);
  }
  answer = { status: 400, body: { definition: ["Bearer very-secret-value and very-secret-value are wrong"] } };
  const voice = { id, definition: generic, language: "en", description: null };
  const error = await failure(listening().registerVoice("a", voice, soon()));
  expect(error?.message).toContain("[secret]");
  expect(error?.message).not.toContain("very-secret");
});

test("public voices and those of a longer name are not taken for ours", async () => {
  const definition = { lmnt: { voiceId: "leah" } };
  for (const name of [`${id}x`, `x${id}`]) {
    await uv().registerVoice("a", { id: name, definition, language: "en", description: null }, soon());
  }
  expect(await uv().findVoices("a", id, soon())).toEqual([]);
  expect(await uv().findVoices("a", "Mark", soon())).toEqual([]);
});

test("a preview is read from where the provider points, and our key does not go there", async () => {
  const { providerVoiceId } = await uv().cloneVoice("a", cloneOf(), soon());
  for (const recordings of ["inline", "redirect"]) {
    await fetch(`${simulator.url}/_sim/faults`, { method: "PUT", body: JSON.stringify({ recordings }) });
    const { chunks, contentType } = await uv().previewVoice("a", providerVoiceId, soon());
    const pieces: Buffer[] = [];
    for await (const piece of chunks) pieces.push(piece);
    const bytes = Buffer.concat(pieces);
    expect([contentType, bytes.toString("latin1", 0, 4)]).toEqual(["audio/wav", "RIFF"]);
  }
  expect((await failure(uv().previewVoice("a", "00000000-0000-4000-8000-00000000dead", soon())))?.status).toBe(404);
});

test("keys of other companies are sent to the account, and never seen in an error", async () => {
  answer = { status: 200, body: {} };
  await listening().setTtsKeys("a", { elevenLabs: "sk_canary_0123", lmnt: null }, soon());
  expect(heard[0]).toMatchObject({ method: "PATCH", url: "/api/accounts/me/tts_api_keys" });
  expect(JSON.parse(heard[0]!.body)).toEqual({ elevenLabs: "sk_canary_0123", lmnt: null });
  answer = { status: 400, body: { elevenLabs: ["sk_canary_0123 is no key"] } };
  const error = await failure(listening().setTtsKeys("a", { elevenLabs: "sk_canary_0123" }, soon()));
  expect(error?.message).not.toContain("canary");
});

test("a client's own key is sent in the headers of the voice, as each vendor documents it", () => {
  const voice = { voiceId: "v/1", model: null, settings: {}, generic: null };
  const key = { apiKey: "own-key", language: "pt-BR" };
  const settings = { speed: 1.1, similarityBoost: 0.5, optimizeStreamingLatency: 2, maxSampleRate: 16_000 };
  expect(keyedDefinition("elevenlabs", { ...voice, model: "eleven_turbo_v2_5", settings }, key)).toEqual({
    generic: {
      url: "https://api.elevenlabs.io/v1/text-to-speech/v%2F1/stream?output_format=pcm_16000&optimize_streaming_latency=2",
      headers: { "xi-api-key": "own-key" },
      body: { text: "{text}", model_id: "eleven_turbo_v2_5", voice_settings: { speed: 1.1, similarity_boost: 0.5 } },
      responseMimeType: "audio/l16",
      responseSampleRate: 16_000,
    },
  });
  expect(keyedDefinition("cartesia", { ...voice, settings: { speed: 0.9 } }, key)).toMatchObject({
    generic: {
      url: "https://api.cartesia.ai/tts/bytes",
      headers: { Authorization: "Bearer own-key" },
      body: { model_id: "sonic-3", transcript: "{text}", voice: { mode: "id", id: "v/1" }, language: "pt" },
      responseSampleRate: 24_000,
    },
  });
  expect(keyedDefinition("lmnt", voice, key)).toMatchObject({
    generic: { headers: { "X-API-Key": "own-key" }, body: { voice: "v/1", text: "{text}", format: "pcm_s16le" } },
  });
  for (const provider of ["google", "inworld", "respeecher"] as const)
    expect(keyedDefinition(provider, voice, key)).toBeNull();
});
