import { newId } from "../../../db/ids.ts";
import type { TestApp } from "../../support/app.ts";
import { config as plain } from "./core.ts";
import { type ModuleInputs, page, type ResourceIds } from "./resource.ts";

const parts = {
  voice: null,
  languages: ["en", "de"],
  timeExceededMessage: "I have to go now.",
  // biome-ignore lint/suspicious/noThenProperty: the provider's field name; a message is never awaited
  inactivityMessages: [{ afterSeconds: 20, message: "Are you there?", then: "hang_up" }],
  voicemail: { behaviour: "leave_message", message: "Please call back." },
  variables: [{ name: "name", type: "string", required: false, default: "there", description: "Whom we call." }],
  transferTargets: [{ name: "sales", description: "Prices.", to: "+14155550100", warm: false }],
  hangUpEnabled: true,
  retention: { transcriptDays: 30, recordingDays: 7 },
  outputSchema: { type: "object", properties: { booked: { type: "boolean", description: "Did they book?" } } },
  metadata: { team: "north" },
};

/** The resources that an agent may refer to, inserted directly. */
export async function partsFor(h: TestApp, clientId: string, account = "pacc_platform") {
  const [voice, base, tool] = [newId("voice"), newId("knowledgeBase"), newId("tool")];
  await h.owner`insert into voices (client_id, id, name, language, kind, provider, status, provider_account_id, provider_voice_id)
    values (${clientId}, ${voice}, 'Ada', 'en', 'clone', 'ultravox', 'active', ${account}, ${`up-${voice}`})`;
  await h.owner`insert into knowledge_bases (client_id, id, name, status, provider_account_id, provider_corpus_id, ready_files)
    values (${clientId}, ${base}, 'Prices', 'ready', ${account}, ${`up-${base}`}, 1)`;
  const definition = { type: "client", parameters: [], timeoutSeconds: 20, reaction: "speaks", staticResponse: null };
  await h.owner`insert into tools (client_id, id, name, description, kind, config, version, status, provider_account_id, provider_tool_id)
    values (${clientId}, ${tool}, ${`tool_${tool.slice(-8)}`}, 'Shows.', 'client', ${h.owner.json({ definition })}, 1, 'active', ${account}, ${`up-${tool}`})`;
  return { voice, base, tool };
}

const whole = (own: ResourceIds) => ({
  ...plain,
  ...parts,
  voiceId: own.agentVoice,
  knowledgeBaseIds: [own.agentBase],
  tools: [{ toolId: own.agentTool, description: "Shows a picture.", parameterOverrides: { size: 3 } }],
});

async function spare(h: TestApp, key: string): Promise<string> {
  return (await h.post("/agents", plain, { key })).body.data.id;
}

export const agents: ModuleInputs = {
  async createResources({ h, who }) {
    const { voice, base, tool } = await partsFor(h, who.clientId);
    const own = { agentVoice: voice, agentBase: base, agentTool: tool };
    const made = await h.post("/agents", { ...whole(own) }, { key: who.key });
    return { agent: made.body.data.id, ...own };
  },
  inputs: {
    "agents.create": ({ own }) => whole(own),
    "agents.get": ({ own }) => ({ id: own.agent }),
    "agents.list": ({ own }) => ({
      ...page,
      createdAfter: "2020-01-01T00:00:00.000Z",
      createdBefore: "2099-01-01T00:00:00.000Z",
      status: "active",
      search: "recep",
      voiceId: own.agentVoice,
      toolId: own.agentTool,
      knowledgeBaseId: own.agentBase,
      metadata: { team: "north" },
    }),
    "agents.update": ({ own }) => ({ id: own.agent, ...whole(own) }),
    "agents.remove": async ({ h, who }) => ({ id: await spare(h, who.key), force: true }),
    "agents.duplicate": ({ own }) => ({ id: own.agent, name: "Copy" }),
    "agents.versions.list": ({ own }) => ({
      ...page,
      id: own.agent,
      createdAfter: "2020-01-01T00:00:00.000Z",
      createdBefore: "2099-01-01T00:00:00.000Z",
    }),
    "agents.versions.get": ({ own }) => ({ id: own.agent, version: 1 }),
    "agents.versions.restore": ({ own }) => ({ id: own.agent, version: 1 }),
  },
};
