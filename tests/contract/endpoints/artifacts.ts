import type { SeededClient } from "../../../dev/seed.ts";
import type { TestApp } from "../../support/app.ts";
import { config } from "./core.ts";
import type { ModuleInputs } from "./resource.ts";

const outputSchema = { type: "object", properties: { mood: { type: "string" } } };

/** A call that was recorded, according to its row. The file is never requested. */
async function recordedCall(h: TestApp, { clientId, key }: SeededClient, agentId: string): Promise<string> {
  const id = (await h.post("/calls", { agentId, medium: { type: "web" } }, { key })).body.data.id;
  await h.owner`update calls set status = 'ended', outcome = 'completed', outcome_final = true, transcript_status = 'ready',
    recording_status = 'ready', recording_bytes = 44, recording_key = ${`${clientId}/recordings/${id}.wav`} where id = ${id}`;
  return id;
}

/** An agent with an output schema, without a running backfill. */
async function askingAgent(h: TestApp, { key }: SeededClient): Promise<string> {
  const id = (await h.post("/agents", config, { key })).body.data.id;
  await h.owner`update agent_versions set config = config || ${h.owner.json({ outputSchema })} where agent_id = ${id}`;
  return id;
}

export const artifacts: ModuleInputs = {
  async createResources({ h, who, own }) {
    const rerun = await h.post(`/agents/${await askingAgent(h, who)}/output/rerun`, {}, { key: who.key });
    return { recordedCall: await recordedCall(h, who, own.agent!), outputRerun: rerun.body.data.id };
  },
  inputs: {
    "calls.recording": ({ own }) => ({ id: own.recordedCall, expiresInSeconds: 60 }),
    "calls.output.rerun": async ({ h, who }) => ({
      id: await askingAgent(h, who),
      createdAfter: "2026-01-01T00:00:00.000Z",
      createdBefore: "2099-01-01T00:00:00.000Z",
    }),
    "calls.output.get": ({ own }) => ({ id: own.outputRerun }),
    "internal.calls.syncArtifacts": async ({ h, who, own }) => ({ id: await recordedCall(h, who, own.agent!) }),
  },
};
