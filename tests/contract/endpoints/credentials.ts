import type { ModuleInputs, Setup } from "./resource.ts";

const key = { apiKey: "sk_0123456789abcdef0123456789abcdef" };

async function saved({ h, who }: Setup, provider: string) {
  await h.send("PUT", `/auth/providers/${provider}`, { secret: key }, { key: who.key });
  return provider;
}

export const credentials: ModuleInputs = {
  async createResources(ground) {
    for (const provider of ["elevenlabs", "lmnt"]) await saved(ground, provider);
    return {};
  },
  inputs: {
    "credentials.list": () => ({}),
    "credentials.put": () => ({ provider: "elevenlabs", secret: key }),
    "credentials.remove": async (ground) => ({ provider: await saved(ground, "inworld"), force: true }),
    "credentials.verify": () => ({ provider: "lmnt" }),
    "credentials.tts": () => ({ provider: "cartesia", apiKey: key.apiKey }),
  },
};
