import type { CallEndpoints } from "./resources.ts";

/** A clone is a multipart form, which the validator cannot read. The adapter's tests cover it. */
export const voices: CallEndpoints = async (ask) => {
  const definition = { elevenLabs: { voiceId: "21m00Tcm4TlvDq8ikWAM", model: "eleven_turbo_v2_5", speed: 1.1 } };
  const made = await ask<{ voiceId: string }>("POST", "/api/voices", { name: "voice_1", definition });
  const path = `/api/voices/${made.body.voiceId}`;
  await ask("GET", "/api/voices?search=voice_1&ownership=private&pageSize=5");
  await ask("GET", "/api/voices?billingStyle=VOICE_BILLING_STYLE_EXTERNAL&provider=eleven_labs&provider=cartesia");
  await ask("GET", path);
  await ask("PATCH", path, { primaryLanguage: "en-GB", description: null });
  const body = { text: "{text}" };
  const generic = { url: "https://tts.example.com/speak", headers: { Authorization: "Bearer tts-secret" }, body };
  await ask("PUT", path, { name: "voice_1", definition: { generic: { ...generic, responseSampleRate: 24_000 } } });
  await ask("GET", `${path}/preview`);
  await ask("DELETE", path);
};
