import { type Placeholder, type SQL, sql } from "drizzle-orm";
import { z } from "zod";
import { announce, type Tx } from "./client.ts";
import { ownPosition } from "./event-position.ts";
import { newId } from "./ids.ts";
import { preparedSql } from "./prepared.ts";

const instant = z.iso.datetime().nullable();

const Agent = z.object({ id: z.string(), name: z.string(), status: z.string(), version: z.number().int() });
const ApiKey = z.object({ id: z.string(), name: z.string(), prefix: z.string(), scopes: z.array(z.string()) });
const Endpoint = z.object({
  id: z.string(),
  url: z.string(),
  /** For people; `code` is for programs. */
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
  /** What was extracted from the conversation by the agent's output schema. */
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

/** All public events, each with its subject and the shape of its `data`. */
export const catalogue = {
  "agent.created": { subject: "agent", data: Agent, description: "An agent was created and can take calls." },
  "agent.updated": { subject: "agent", data: Agent, description: "A new version of an agent is live." },
  "agent.deleted": { subject: "agent", data: Agent, description: "An agent was deleted and takes no more calls." },
  "api_key.created": { subject: "api_key", data: ApiKey, description: "An API key was created." },
  "api_key.revoked": {
    subject: "api_key",
    data: ApiKey,
    description: "An API key was revoked and is no longer accepted.",
  },
  "call.created": { subject: "call", data: Call, description: "The voice provider accepted a call." },
  "call.started": {
    subject: "call",
    data: Call,
    description: "The call is ringing, or waits for a participant to join.",
  },
  "call.joined": { subject: "call", data: Call, description: "A participant answered or joined the call." },
  "call.ended": { subject: "call", data: Call, description: "The call ended. Its outcome is provisional." },
  "call.completed": {
    subject: "call",
    data: Call,
    description: "The call ended with a conversation or a voicemail. The outcome is final.",
  },
  "call.failed": {
    subject: "call",
    data: Call,
    description: "The call ended without a conversation; `outcome` has the reason. The outcome is final.",
  },
  "call.billed": { subject: "call", data: Call, description: "The cost of the call is known, or has changed." },
  "call.transcript.ready": { subject: "call", data: Call, description: "The transcript of a call is available." },
  "call.recording.ready": { subject: "call", data: Call, description: "The recording of a call is available." },
  "credits.granted": { subject: "credits", data: Credits, description: "Credits were granted." },
  "credits.held": { subject: "credits", data: Credits, description: "Credits were held for an operation that starts." },
  "credits.debited": { subject: "credits", data: Credits, description: "Credits were spent." },
  "credits.released": {
    subject: "credits",
    data: Credits,
    description: "Held credits were not needed and are available again.",
  },
  "credits.refunded": { subject: "credits", data: Credits, description: "Spent credits were refunded." },
  "knowledge_base.created": {
    subject: "knowledge_base",
    data: KnowledgeBase,
    description: "A knowledge base was created.",
  },
  "knowledge_base.deleted": {
    subject: "knowledge_base",
    data: KnowledgeBase,
    description: "A knowledge base was deleted.",
  },
  "knowledge_base.ingestion.started": {
    subject: "knowledge_base",
    data: KnowledgeBase,
    description: "The ingestion of files or web pages started.",
  },
  "knowledge_base.ingestion.completed": {
    subject: "knowledge_base",
    data: KnowledgeBase,
    description: "The ingestion finished: every file and web page is ready or has failed.",
  },
  "knowledge_base.ingestion.failed": {
    subject: "knowledge_base",
    data: KnowledgeBase,
    description: "The ingestion failed: no file or web page could be read.",
  },
  "tool.created": { subject: "tool", data: Tool, description: "A tool was created and can be used by agents." },
  "tool.updated": { subject: "tool", data: Tool, description: "A new version of a tool is live." },
  "tool.deleted": { subject: "tool", data: Tool, description: "A tool was deleted." },
  "voice.created": {
    subject: "voice",
    data: Voice,
    description: "A voice was created. It can be used once it is active.",
  },
  "voice.updated": { subject: "voice", data: Voice, description: "A voice was changed." },
  "voice.deleted": { subject: "voice", data: Voice, description: "A voice was deleted." },
  "voice.training.started": { subject: "voice", data: Voice, description: "The training of a voice started." },
  "voice.training.completed": { subject: "voice", data: Voice, description: "A voice is ready to use." },
  "voice.training.failed": {
    subject: "voice",
    data: Voice,
    description: "A voice could not be created; the credits were returned.",
  },
  "webhook.test": {
    subject: "webhook",
    data: Test,
    description: "A test event, sent only by `POST /webhooks/{id}/test`.",
  },
  "webhook.endpoint.disabled": { subject: "webhook", data: Endpoint, description: "A webhook endpoint was disabled." },
} as const satisfies Record<string, { subject: string; data: z.ZodObject; description: string }>;

export type EventType = keyof typeof catalogue;
export type EventData<N extends EventType> = z.input<(typeof catalogue)[N]["data"]>;
export const eventTypes = Object.keys(catalogue) as EventType[];
export type SubjectType = (typeof catalogue)[EventType]["subject"];
/** All kinds of subject that events have. */
export const subjectTypes = [...new Set(eventTypes.map((type): SubjectType => catalogue[type].subject))];

/**
 * Writes an event in the transaction that made it true, and queues its fan-out: one round trip.
 * The sequence grows by one per subject. Its counter row stays locked until the commit, so call this last.
 * `more`: a jsonb expression whose fields replace those of `data`, for values that only the database has.
 */
export async function emit<N extends EventType>(
  tx: Tx,
  type: N,
  subjectId: string | SQL,
  data: EventData<N>,
  more?: SQL,
) {
  const { subject, data: shape } = catalogue[type];
  const body = JSON.stringify(shape.parse(data));
  const values = { id: newId("event"), type, subject, body };
  // Sent before this returns, so that it can go with a commit.
  const [written] =
    typeof subjectId === "string" && more === undefined
      ? await writePrepared(tx, { ...values, subjectId })
      : await tx.execute<Written>(emission({ ...values, subjectId, more: more ?? sql`'{}'::jsonb` })).execute();
  announce(tx, { events: true, fanOuts: written!.fans_out });
}

type Written = { fans_out: boolean };
type Emission = Record<"id" | "type" | "subject" | "subjectId" | "body", string | SQL | Placeholder> & { more: SQL };

const emission = ({ id, type, subject, subjectId, body, more }: Emission) => sql`
    -- counted: locks the subject's counter and takes the next sequence, and a position that is not below its last
    with counted as (
      insert into event_counters (subject_id, sequence, position) values (${subjectId}, 1, ${ownPosition})
      on conflict (client_id, subject_id) do update set sequence = event_counters.sequence + 1,
        position = greatest(event_counters.position, excluded.position)
      returning subject_id, sequence, position
    ), emitted as ( -- the event itself
      insert into events (id, type, subject_type, subject_id, sequence, position, data)
      select ${id}, ${type}, ${subject}, subject_id, sequence, position, ${body}::text::jsonb || ${more} from counted
      returning id, created_at
    ), fan_out as ( -- if any endpoint could want the event
      insert into event_fan_outs (event_id, event_created_at) select id, created_at from emitted
      where exists (select from webhook_endpoints where status = 'enabled' and deleted_at is null)
      returning 1
    )
    select exists (select from fan_out) as fans_out`;

/** Built once: most commands emit an event. */
const writePrepared = preparedSql<Written>(
  emission({
    id: sql.placeholder("id"),
    type: sql.placeholder("type"),
    subject: sql.placeholder("subject"),
    subjectId: sql.placeholder("subjectId"),
    body: sql.placeholder("body"),
    more: sql`'{}'::jsonb`,
  }),
);
