import { z } from "zod";
import type { ProviderVoice, UltravoxVoices } from "../../../routers/ports/ultravox.ts";
import { json, type Line, unless } from "./http-client.ts";

/** What Ultravox itself takes at most (openapi.json: Voice). */
const descriptionLength = 240;

const Voice = z
  .looseObject({
    voiceId: z.string().min(1),
    name: z.string(),
    primaryLanguage: z.string().nullish(),
    provider: z.string().nullish(),
  })
  .transform(
    ({ voiceId, name, primaryLanguage, provider }): ProviderVoice => ({
      providerVoiceId: voiceId,
      name,
      language: primaryLanguage ?? null,
      provider: provider ?? null,
    }),
  );

export function voicesOf({ ask, all, fetch, remove }: Line): UltravoxVoices {
  return {
    // Synchronous, one file, no training to wait for; the name is unique in the account (docs.ultravox.ai,
    // voices/cloning), so a second upload under our id is refused rather than doubled.
    cloneVoice(accountId, { id, sample, language, description }, deadline) {
      const form = new FormData();
      const bytes = new Uint8Array(sample.bytes);
      form.set("file", new File([bytes], sample.fileName, { type: sample.contentType }));
      form.set("name", id);
      form.set("language", language);
      if (description) form.set("description", cut(description));
      const create = { method: "POST", repeat: "create", path: "/api/voices" } as const;
      return ask(accountId, { ...create, form, read: json(Voice).from }, deadline);
    },

    registerVoice(accountId, { id, definition, language, description }, deadline) {
      const body = { name: id, definition, primaryLanguage: language, description: description && cut(description) };
      const create = { method: "POST", repeat: "create", path: "/api/voices" } as const;
      return ask(accountId, { ...create, body, read: json(Voice).from, secrets: secretsIn(definition) }, deadline);
    },

    async findVoices(accountId, voiceId, deadline) {
      const query = { search: voiceId, ownership: "private" };
      const found = await all(accountId, { path: "/api/voices", query, item: Voice }, deadline);
      return found.filter(({ name }) => name === voiceId);
    },

    getVoice(accountId, providerVoiceId, deadline) {
      const get = { method: "GET", repeat: "safe", path: pathOf(providerVoiceId), read: json(Voice).from } as const;
      return unless(404, null, ask(accountId, get, deadline));
    },

    updateVoice(accountId, providerVoiceId, { language, description, definition }, deadline) {
      const body = {
        primaryLanguage: language,
        description: description && cut(description),
        ...(definition ? { definition } : {}),
      };
      const change = { method: "PATCH", repeat: "safe", path: pathOf(providerVoiceId) } as const;
      const secrets = definition ? secretsIn(definition) : [];
      return ask(accountId, { ...change, body, read: json(Voice).from, secrets }, deadline);
    },

    deleteVoice: (accountId, providerVoiceId, deadline) => remove(accountId, pathOf(providerVoiceId), deadline),

    /** 200 with the sound, or 302 to where it lies: our key does not go there. */
    async previewVoice(accountId, providerVoiceId, deadline) {
      const accept = "audio/wav";
      const path = `${pathOf(providerVoiceId)}/preview`;
      const heard = await ask<{ bytes: Buffer } | { link: string }>(
        accountId,
        {
          ...{ method: "GET", repeat: "safe", path, accept },
          read: (bytes) => ({ bytes }),
          readLocation: (link) => ({ link }),
        },
        deadline,
      );
      const bytes = "bytes" in heard ? heard.bytes : await fetch(heard.link, accept, deadline);
      return { chunks: once(bytes), contentType: accept };
    },

    async setTtsKeys(accountId, keys, deadline) {
      const secrets = Object.values(keys).filter((key) => typeof key === "string");
      const path = "/api/accounts/me/tts_api_keys";
      await ask(accountId, { method: "PATCH", repeat: "safe", path, body: keys, read: () => {}, secrets }, deadline);
    },
  };
}

const pathOf = (providerVoiceId: string) => `/api/voices/${encodeURIComponent(providerVoiceId)}`;
const cut = (text: string) => text.slice(0, descriptionLength).toWellFormed();

/** The headers of a `generic` voice: a refusal may repeat them. */
function secretsIn(definition: object): string[] {
  const { generic } = definition as { generic?: { headers?: Record<string, string> } };
  const values = Object.values(generic?.headers ?? {});
  return values.flatMap((value) => [value, value.replace(/^\S+\s+/, "")]);
}

async function* once(bytes: Buffer) {
  yield bytes;
}
