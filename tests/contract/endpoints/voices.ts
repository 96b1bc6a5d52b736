import type { TestApp } from "../../support/app.ts";
import { cloneOf, sendSample } from "../../support/voices.ts";
import { type ModuleInputs, page } from "./resource.ts";

const words = { name: "Ada", description: "Calm", language: "en-GB", metadata: { crm: "7" } };
const definition = { elevenLabs: { voiceId: "21m00Tcm4TlvDq8ikWAM" } };
const source = { type: "external", provider: "elevenlabs", voiceId: "21m00Tcm4TlvDq8ikWAM" };

async function makeVoice(h: TestApp, key: string): Promise<string> {
  return (await h.post("/voices", { ...words, source }, { key })).body.data.id;
}

/** A ready voice, as the workers would leave it. */
async function activeVoice(h: TestApp, key: string): Promise<string> {
  const id = await makeVoice(h, key);
  const requests = { id, definition, language: "en", description: null };
  const deadline = { signal: AbortSignal.timeout(10_000) };
  const { providerVoiceId } = await h.deps.providers.ultravox.registerVoice("pacc_platform", requests, deadline);
  await h.owner`update voices set status = 'active', provider_voice_id = ${providerVoiceId} where id = ${id}`;
  await h.owner`update workflow_runs set status = 'succeeded' where subject_id = ${id}`;
  return id;
}

async function trainingVoice(h: TestApp, key: string): Promise<string> {
  const id = await makeVoice(h, key);
  await h.owner`update voices set status = 'training' where id = ${id}`;
  return id;
}

export const voices: ModuleInputs = {
  async createResources({ h, who }) {
    return { voice: await activeVoice(h, who.key) };
  },
  inputs: {
    "voices.files.presign": () => ({
      files: [
        {
          fileName: "sample.wav",
          contentType: "audio/wav",
          bytes: 48_000,
          sha256: "uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=",
        },
      ],
    }),
    "voices.create": async ({ h, who }) => ({ ...words, ...cloneOf(await sendSample(h, undefined, { key: who.key })) }),
    "voices.list": () => ({
      ...{ ...page, status: "active", kind: "external", provider: "elevenlabs", language: "en-GB", search: "ada" },
      metadata: {},
      createdAfter: "2020-01-01T00:00:00.000Z",
      createdBefore: "2099-01-01T00:00:00.000Z",
    }),
    "voices.get": ({ own }) => ({ id: own.voice }),
    "voices.preview": ({ own }) => ({ id: own.voice }),
    "voices.update": ({ own }) => ({ id: own.voice, ...words, name: `Ada ${Math.random()}` }),
    "voices.remove": async ({ h, who }) => ({ id: await activeVoice(h, who.key), force: true }),
    "internal.voices.updateStatus": async ({ h, who }) => ({
      id: await trainingVoice(h, who.key),
      status: "active",
      providerVoiceId: "3cb21a4e-7c40-4e2b-9c10-2f0d7a3b1c55",
      reason: "Driven by a service.",
    }),
  },
};
