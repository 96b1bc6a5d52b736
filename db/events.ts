import { type SQL, sql } from "drizzle-orm";
import { z } from "zod";
import type { Tx } from "./client.ts";
import { newId } from "./ids.ts";

const instant = z.iso.datetime().nullable();

const Agent = z.object({ id: z.string(), name: z.string(), status: z.string(), version: z.number().int() });
const ApiKey = z.object({ id: z.string(), name: z.string(), prefix: z.string(), scopes: z.array(z.string()) });
const Endpoint = z.object({
  id: z.string(),
  url: z.string(),
  /** In words, and for machines. */
  reason: z.string(),
  code: z.enum(["request", "gone", "failures", "days"]),
});
const Test = z.object({ id: z.string(), message: z.string() });
const Credits = z.object({
  amountMicros: z.number().int(),
  availableMicros: z.number().int(),
  heldMicros: z.number().int(),
  subjectId: z.string().nullable(),
});
const Call = z.object({
  id: z.string(),
  agentId: z.string(),
  agentVersion: z.number().int(),
  direction: z.string(),
  to: z.string().nullable(),
  from: z.string().nullable(),
  status: z.string(),
  outcome: z.string().nullable(),
  outcomeFinal: z.boolean(),
  endReason: z.string().nullable(),
  failureReason: z.string().nullable(),
  metadata: z.record(z.string(), z.string()),
  createdAt: instant,
  joinedAt: instant,
  endedAt: instant,
  billedSeconds: z.number().int().nullable(),
  costMicros: z.number().int().nullable(),
  /** What the agent's output schema made of the conversation. */
  output: z.record(z.string(), z.unknown()).nullable(),
});

const Voice = z.object({
  id: z.string(),
  name: z.string(),
  kind: z.string(),
  provider: z.string(),
  language: z.string(),
  status: z.string(),
  statusReason: z.string().nullable(),
});
const Tool = z.object({
  id: z.string(),
  name: z.string(),
  kind: z.string(),
  status: z.string(),
  version: z.number().int(),
});
const KnowledgeBase = z.object({
  id: z.string(),
  name: z.string(),
  status: z.string(),
  statusReason: z.string().nullable(),
});

/** What the house may say aloud: the catalogue of public webhooks, each with its subject and the shape of its `data`. */
export const catalogue = {
  "agent.created": { subject: "agent", data: Agent, says: "An agent is ready to take calls." },
  "agent.updated": { subject: "agent", data: Agent, says: "A new version of an agent is live." },
  "agent.deleted": { subject: "agent", data: Agent, says: "An agent was deleted; it takes no more calls." },
  "api_key.created": { subject: "api_key", data: ApiKey, says: "An API key was made." },
  "api_key.revoked": { subject: "api_key", data: ApiKey, says: "An API key was revoked; it is refused from now on." },
  "call.created": { subject: "call", data: Call, says: "A call was accepted by the voice provider." },
  "call.started": { subject: "call", data: Call, says: "The call is ringing, or waits for somebody to join." },
  "call.joined": { subject: "call", data: Call, says: "Somebody answered or joined." },
  "call.ended": { subject: "call", data: Call, says: "The call is over. Its outcome is provisional." },
  "call.completed": { subject: "call", data: Call, says: "A conversation took place, or a voicemail was left. Final." },
  "call.failed": { subject: "call", data: Call, says: "No conversation took place; `outcome` says why. Final." },
  "call.billed": { subject: "call", data: Call, says: "The cost of the call is known, or has changed." },
  "call.transcript.ready": { subject: "call", data: Call, says: "The transcript can be read." },
  "call.recording.ready": { subject: "call", data: Call, says: "The recording can be downloaded." },
  "credits.granted": { subject: "credits", data: Credits, says: "Credits were given." },
  "credits.held": { subject: "credits", data: Credits, says: "Credits were set aside for something that begins." },
  "credits.debited": { subject: "credits", data: Credits, says: "Credits were spent." },
  "credits.released": {
    subject: "credits",
    data: Credits,
    says: "Credits set aside were not needed and are available again.",
  },
  "credits.refunded": { subject: "credits", data: Credits, says: "Credits already spent were given back." },
  "knowledge_base.created": { subject: "knowledge_base", data: KnowledgeBase, says: "A knowledge base was made." },
  "knowledge_base.deleted": { subject: "knowledge_base", data: KnowledgeBase, says: "A knowledge base was deleted." },
  "knowledge_base.ingestion.started": {
    subject: "knowledge_base",
    data: KnowledgeBase,
    says: "Files or pages are being read into a knowledge base.",
  },
  "knowledge_base.ingestion.completed": {
    subject: "knowledge_base",
    data: KnowledgeBase,
    says: "Everything that was being read into a knowledge base is in it, or has failed by itself.",
  },
  "knowledge_base.ingestion.failed": {
    subject: "knowledge_base",
    data: KnowledgeBase,
    says: "Nothing of what was to be read into a knowledge base could be.",
  },
  "tool.created": { subject: "tool", data: Tool, says: "A tool can be given to agents." },
  "tool.updated": { subject: "tool", data: Tool, says: "A new version of a tool is live." },
  "tool.deleted": { subject: "tool", data: Tool, says: "A tool was deleted." },
  "voice.created": { subject: "voice", data: Voice, says: "A voice was made; it can be used once it is active." },
  "voice.updated": { subject: "voice", data: Voice, says: "A voice was changed." },
  "voice.deleted": { subject: "voice", data: Voice, says: "A voice was deleted." },
  "voice.training.started": { subject: "voice", data: Voice, says: "A voice is being trained from its samples." },
  "voice.training.completed": { subject: "voice", data: Voice, says: "A voice can be used." },
  "voice.training.failed": { subject: "voice", data: Voice, says: "A voice could not be made; the credits are back." },
  "webhook.test": { subject: "webhook", data: Test, says: "Sent by `POST /webhooks/{id}/test` alone." },
  "webhook.endpoint.disabled": { subject: "webhook", data: Endpoint, says: "A webhook endpoint was switched off." },
} as const satisfies Record<string, { subject: string; data: z.ZodObject; says: string }>;

export type EventType = keyof typeof catalogue;
export type EventData<N extends EventType> = z.input<(typeof catalogue)[N]["data"]>;
export const eventTypes = Object.keys(catalogue) as EventType[];
export type SubjectType = (typeof catalogue)[EventType]["subject"];
/** What events are about. */
export const subjectTypes = [...new Set(eventTypes.map((type): SubjectType => catalogue[type].subject))];

/** Says, when an event commits, whose it is: to whoever follows the events of this client. */
export const eventsChannel = "patchbay_events";

/**
 * States a fact, in the transaction that made it true, and sends it on its way: one round trip.
 * The sequence grows by one per subject; the counter's row stays locked until the commit, so take it last.
 * `more`: a jsonb expression whose fields take the place of those in `data`, for what only the database knows by then.
 */
export async function emit<N extends EventType>(
  tx: Tx,
  type: N,
  subjectId: string | SQL,
  data: EventData<N>,
  more: SQL = sql`'{}'::jsonb`,
) {
  const { subject, data: shape } = catalogue[type];
  const body = JSON.stringify(shape.parse(data));
  await tx.execute(sql`
    with counted as (
      insert into event_counters (subject_id, sequence) values (${subjectId}, 1)
      on conflict (client_id, subject_id) do update set sequence = event_counters.sequence + 1
      returning subject_id, sequence
    ), stated as (
      insert into events (id, type, subject_type, subject_id, sequence, data)
      select ${newId("event")}, ${type}, ${subject}, subject_id, sequence, ${body}::text::jsonb || ${more} from counted
      returning id, client_id, created_at
    )
    select pg_notify(${eventsChannel}::text, client_id), case
      when exists (select from webhook_endpoints where status = 'enabled' and deleted_at is null) then
        graphile_worker.patchbay_enqueue(json_build_array(json_build_object(
          'task', 'events.fanOut', 'body', json_build_object('eventId', id, 'createdAt', created_at::text))))
      end
    from stated`);
}
