import type { Speak } from "./nouns.ts";

/** Keys of companies of voices: set, seen by their beginnings, taken away. */
export const account: Speak = async (ask) => {
  const path = "/api/accounts/me/tts_api_keys";
  const keys = { elevenLabs: "sk_elevenlabs", cartesia: "sk_cartesia", lmnt: "lmnt", google: "{}", inworld: "in" };
  await ask("PATCH", path, { ...keys, respeecher: "respeecher" });
  await ask("GET", path);
  await ask("PATCH", path, { elevenLabs: null });
};
