import { z } from "zod";
import type { ProviderVoice, UltravoxVoices } from "../../../routers/ports/ultravox.ts";
import { json, type UltravoxClient, unless } from "./http-client.ts";

/** The limit of Ultravox (openapi.json: Voice). */
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

export function voicesOf({ request, listAll, fetch, remove }: UltravoxClient): UltravoxVoices {
  return {
    // Synchronous, one file, no training to wait for; the name is unique in the account (docs.ultravox.ai,
    // voices/cloning), so a second upload with our id is refused.
    cloneVoice(accountId, { id, sample, language, description }, deadline) {
      const form = new FormData();
      const bytes = new Uint8Array(sample.bytes);
      form.set("file", new File([bytes], sample.fileName, { type: sample.contentType }));
      form.set("name", id);
      form.set("language", language);
      if (description) form.set("description", cut(description));
      const create = { method: "POST", repeat: "create", path: "/api/voices" } as const;
      return request(accountId, { ...create, form, read: json(Voice).from }, deadline);
    },

    registerVoice(accountId, { id, definition, language, description }, deadline) {
      const body = { name: id, definition, primaryLanguage: language, description: description && cut(description) };
      const create = { method: "POST", repeat: "create", path: "/api/voices" } as const;
      return request(accountId, { ...create, body, read: json(Voice).from, secrets: secretsIn(definition) }, deadline);
    },

    async findVoices(accountId, voiceId, deadline) {
      const query = { search: voiceId, ownership: "private" };
      const found = await listAll(accountId, { path: "/api/voices", query, item: Voice, about: [voiceId] }, deadline);
      return found.filter(({ name }) => name === voiceId);
    },

    getVoice(accountId, providerVoiceId, deadline) {
      const get = { method: "GET", repeat: "safe", path: pathOf(providerVoiceId), read: json(Voice).from } as const;
      return unless(404, null, request(accountId, get, deadline));
    },

    updateVoice(accountId, providerVoiceId, { language, description, definition }, deadline) {
      const body = {
        primaryLanguage: language,
        description: description && cut(description),
        ...(definition ? { definition } : {}),
      };
      const change = { method: "PATCH", repeat: "safe", path: pathOf(providerVoiceId) } as const;
      const secrets = definition ? secretsIn(definition) : [];
      return request(accountId, { ...change, body, read: json(Voice).from, secrets }, deadline);
    },

    deleteVoice: (accountId, providerVoiceId, deadline) => remove(accountId, pathOf(providerVoiceId), deadline),

    /** 200 with the audio, or 302 to its storage, where our key is not sent. */
    async previewVoice(accountId, providerVoiceId, deadline) {
      const accept = "audio/wav";
      const path = `${pathOf(providerVoiceId)}/preview`;
      const preview = await request<{ bytes: Buffer } | { link: string }>(
        accountId,
        {
          ...{ method: "GET", repeat: "safe", path, accept },
          read: (bytes) => ({ bytes }),
          readLocation: (link) => ({ link }),
        },
        deadline,
      );
      const bytes = "bytes" in preview ? preview.bytes : await fetch(preview.link, accept, deadline);
      return { chunks: once(bytes), contentType: accept };
    },

    async setTtsKeys(accountId, keys, deadline) {
      const secrets = Object.values(keys).filter((key) => typeof key === "string");
      const path = "/api/accounts/me/tts_api_keys";
      await request(
        accountId,
        { method: "PATCH", repeat: "safe", path, body: keys, read: () => {}, secrets },
        deadline,
      );
    },
  };
}

const pathOf = (providerVoiceId: string) => `/api/voices/${encodeURIComponent(providerVoiceId)}`;
const cut = (text: string) => text.slice(0, descriptionLength).toWellFormed();

/** The headers of a `generic` voice: an error message may quote them. */
function secretsIn(definition: object): string[] {
  const { generic } = definition as { generic?: { headers?: Record<string, string> } };
  const values = Object.values(generic?.headers ?? {});
  return values.flatMap((value) => [value, value.replace(/^\S+\s+/, "")]);
}

async function* once(bytes: Buffer) {
  yield bytes;
}
