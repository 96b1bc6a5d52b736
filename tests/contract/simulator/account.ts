import type { CallEndpoints } from "./resources.ts";

/** Keys of TTS vendors: set, listed by prefix, removed. */
export const account: CallEndpoints = async (ask) => {
  const path = "/api/accounts/me/tts_api_keys";
  const keys = { elevenLabs: "sk_elevenlabs", cartesia: "sk_cartesia", lmnt: "lmnt", google: "{}", inworld: "in" };
  await ask("PATCH", path, { ...keys, respeecher: "respeecher" });
  await ask("GET", path);
  await ask("PATCH", path, { elevenLabs: null });
};
