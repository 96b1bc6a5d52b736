import type { EventData, EventType } from "./events.ts";

/** The part of an example id after its prefix. */
const one = "01m82knxfbfrssk0x3en012rbf";

const agent = { id: `agent_${one}`, name: "Reception", status: "active", version: 1 };
const apiKey = { id: `key_${one}`, name: "CI", prefix: "pb_live_4f9a", scopes: ["calls:read", "calls:write"] };
const knowledgeBase = { id: `kb_${one}`, name: "Bakery", status: "ready", statusReason: null };
const tool = { id: `tool_${one}`, name: "bookTable", kind: "http", status: "active", version: 1 };
const credits = { amountMicros: 250_000, availableMicros: 99_750_000, heldMicros: 0, subjectId: `call_${one}` };

const voice = {
  id: `voice_${one}`,
  name: "Marie",
  kind: "clone",
  provider: "ultravox",
  language: "en",
  status: "active",
  statusReason: null,
};

/** A call at each step of its life. */
const created = {
  id: `call_${one}`,
  agentId: agent.id,
  agentVersion: 1,
  direction: "outbound",
  to: "+14155550123",
  from: "+14155550199",
  status: "ringing",
  outcome: null,
  outcomeFinal: false,
  endReason: null,
  failureReason: null,
  metadata: { orderId: "10248" },
  createdAt: "2026-11-22T10:15:00.000Z",
  joinedAt: null,
  endedAt: null,
  billedSeconds: null,
  costMicros: null,
  output: null,
};
const joined = { ...created, status: "active", joinedAt: "2026-11-22T10:15:06.000Z" };
const ended = {
  ...joined,
  status: "ended",
  outcome: "completed",
  endReason: "hangup",
  endedAt: "2026-11-22T10:16:02.000Z",
};
const completed = { ...ended, outcomeFinal: true, output: { wantsTable: true, guests: 4 } };
const failed = {
  ...created,
  status: "ended",
  outcome: "no_answer",
  outcomeFinal: true,
  endReason: "unjoined",
  endedAt: "2026-11-22T10:15:30.000Z",
};

/** An example of `data` for each event: shown in the API reference, and sent by a test of an endpoint. */
export const eventExamples = {
  "agent.created": agent,
  "agent.updated": { ...agent, version: 2 },
  "agent.deleted": { ...agent, status: "deleted", version: 2 },
  "api_key.created": apiKey,
  "api_key.revoked": apiKey,
  "call.created": created,
  "call.started": created,
  "call.joined": joined,
  "call.ended": ended,
  "call.completed": completed,
  "call.failed": failed,
  "call.billed": { ...completed, billedSeconds: 60, costMicros: 250_000 },
  "call.transcript.ready": completed,
  "call.recording.ready": completed,
  "credits.granted": { amountMicros: 100_000_000, availableMicros: 100_000_000, heldMicros: 0, subjectId: null },
  "credits.held": { ...credits, amountMicros: 500_000, availableMicros: 99_500_000, heldMicros: 500_000 },
  "credits.debited": { ...credits, availableMicros: 99_500_000, heldMicros: 250_000 },
  "credits.released": credits,
  "credits.refunded": { ...credits, availableMicros: 100_000_000 },
  "knowledge_base.created": { ...knowledgeBase, status: "empty" },
  "knowledge_base.deleted": { ...knowledgeBase, status: "deleted" },
  "knowledge_base.ingestion.started": { ...knowledgeBase, status: "ingesting" },
  "knowledge_base.ingestion.completed": knowledgeBase,
  "knowledge_base.ingestion.failed": {
    ...knowledgeBase,
    status: "failed",
    statusReason: "None of the files could be read.",
  },
  "tool.created": tool,
  "tool.updated": { ...tool, version: 2 },
  "tool.deleted": { ...tool, status: "deleted", version: 2 },
  "voice.created": { ...voice, status: "pending" },
  "voice.updated": { ...voice, name: "Marie, calm" },
  "voice.deleted": { ...voice, status: "deleted" },
  "voice.training.started": { ...voice, status: "training" },
  "voice.training.completed": voice,
  "voice.training.failed": { ...voice, status: "failed", statusReason: "The samples are too short." },
  "webhook.test": { id: `wh_${one}`, message: "Your webhook endpoint works." },
  "webhook.endpoint.disabled": {
    id: `wh_${one}`,
    url: "https://example.com/hooks/patchbay",
    reason: "The endpoint returned 410 Gone.",
    code: "gone",
  },
} satisfies { [N in EventType]: EventData<N> };
