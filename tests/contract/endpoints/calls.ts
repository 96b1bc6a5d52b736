import type { SeededClient } from "../../../dev/seed.ts";
import { phone, type TestApp } from "../../support/app.ts";
import { type ModuleInputs, page, type ResourceIds } from "./resource.ts";

async function place(h: TestApp, { key }: SeededClient, agentId: string | undefined, to = "+14155550014") {
  const { body } = await h.post("/calls", { agentId, medium: phone(to) }, { key });
  return body.data.id as string;
}

/** A call that has ended, according to its row. */
async function endedCall(h: TestApp, who: SeededClient, { agent }: ResourceIds): Promise<string> {
  const placed = await h.post("/calls", { agentId: agent, medium: { type: "web" } }, { key: who.key });
  const { id } = placed.body.data;
  await h.owner`update calls set status = 'ended', outcome = 'completed', outcome_final = true where id = ${id}`;
  return id;
}

const everyFilter = ({ agent }: ResourceIds) => ({
  status: "ended",
  outcome: "completed",
  agentId: agent,
  direction: "outbound",
  number: "+14155550100",
  to: "+14155550100",
  from: "+14155550199",
  createdAfter: "2026-01-01T00:00:00.000Z",
  createdBefore: "2099-01-01T00:00:00.000Z",
  minDurationSeconds: 1,
  maxDurationSeconds: 3600,
  hasRecording: true,
  metadata: { order: "1" },
  search: "refund thursday",
});

export const calls: ModuleInputs = {
  createResources: async ({ h, who, own }) => ({ call: await endedCall(h, who, own) }),
  inputs: {
    "calls.create": ({ own }) => ({
      agentId: own.agent,
      medium: { ...phone("+14155550100"), carrier: "sip" },
      variables: { name: "Ada" },
      metadata: { order: "1" },
      agentVersion: 1,
      voiceId: own.agentVoice,
      firstSpeaker: "user",
      greeting: "Good morning, Ada!",
      maxDurationSeconds: 60,
      joinTimeoutSeconds: 20,
      recordingEnabled: false,
    }),
    "calls.get": ({ own }) => ({ id: own.call }),
    "calls.legs": ({ own }) => ({ ...page, id: own.call }),
    "calls.list": ({ own }) => ({ ...page, ...everyFilter(own) }),
    "calls.export": ({ own }) => everyFilter(own),
    "calls.transcript": ({ own }) => ({ id: own.call }),
    "calls.refresh": ({ own }) => ({ id: own.call }),
    "calls.hangUp": async ({ h, who, own }) => ({ id: await place(h, who, own.agent), whenJoined: true }),
    "calls.remove": async ({ h, who, own }) => ({ id: await endedCall(h, who, own) }),
  },
};
