import { and, asc, eq, sql } from "drizzle-orm";
import { z } from "zod";
import type { Tx } from "../../../db/client.ts";
import { enqueue } from "../../../db/queue.ts";
import { agentVersions } from "../../../db/schema/agents.ts";
import { callMessages, type calls } from "../../../db/schema/calls.ts";
import { storable } from "../../../db/text.ts";
import { toIso } from "../../core/fields.ts";
import type { ProviderMessage } from "../../ports/ultravox.ts";
import { searchableTerms } from "../list/search-terms.ts";
import { extractOutput, type OutputSources } from "./output.ts";

type CallRow = typeof calls.$inferSelect;
type Change = Partial<typeof calls.$inferInsert>;
type Days = number | null | undefined;

const days = z.int().min(0).nullish();

/** The settings of an agent version that concern artifacts. Versions older than these fields lack them. */
const ArtifactSettings = z.object({
  outputSchema: z.record(z.string(), z.unknown()).nullish(),
  retention: z.object({ transcriptDays: days, recordingDays: days }).nullish(),
  voicemail: z.object({ behaviour: z.string().optional() }).nullish(),
  hangUpEnabled: z.boolean().nullish(),
});

export async function artifactSettingsOf(
  tx: Tx,
  agentId: string,
  version: number,
): Promise<z.output<typeof ArtifactSettings>> {
  const [row] = await tx
    .select({ config: agentVersions.config })
    .from(agentVersions)
    .where(and(eq(agentVersions.agentId, agentId), eq(agentVersions.version, version)));
  return ArtifactSettings.parse(row?.config ?? {});
}

/** The storage key of a recording. It depends on the call only, so the file can be removed without a record of it. */
export const recordingKey = ({ clientId, id }: Pick<CallRow, "clientId" | "id">) => `${clientId}/recordings/${id}.wav`;

/**
 * Stores the messages of an ended call, indexes them for search and extracts the output. Returns the changes of the call's
 * row. `messages` is null when they are no longer waited for. Idempotent.
 */
export async function settleArtifacts(tx: Tx, call: CallRow, messages: ProviderMessage[] | null): Promise<Change> {
  if (call.transcriptStatus === "erased") return {};
  const { outputSchema, retention } = await artifactSettingsOf(tx, call.agentId, call.agentVersion);
  const expiry: Change = {
    transcriptUntil: untilOf(call, retention?.transcriptDays),
    recordingUntil: call.recordingStatus === "none" ? null : untilOf(call, retention?.recordingDays),
  };
  if (!messages) return { ...expiry, transcriptStatus: "missing" };
  await storeMessages(tx, call, messages);
  const finalState = finalStateOf(messages);
  return {
    ...expiry,
    transcriptStatus: isTranscript(messages) ? "ready" : "missing",
    finalState,
    ...outputOf(outputSchema, { ...call, finalState }, messages),
  };
}

/** A call without a single text has no transcript. */
const isTranscript = (messages: readonly ProviderMessage[]) => messages.some(({ text }) => text.trim() !== "");

type OutputSchema = Record<string, unknown> | null | undefined;

/** Extracts the output again from stored messages: after a late change of the call, or with another schema. */
export async function outputAgain(tx: Tx, call: CallRow, schema: OutputSchema): Promise<Change> {
  return outputOf(schema, call, schema ? await messagesOf(tx, call) : []);
}

/**
 * Enqueues the erasure at the provider, for a call that is partly erased here, once nothing more is needed from there. The
 * provider erases a call as a whole only.
 */
export async function eraseUpstreamIfDone(tx: Tx, call: CallRow) {
  const { id: callId, erasedAt, transcriptStatus, recordingStatus, checkAt } = call;
  const isErased = erasedAt !== null || transcriptStatus === "erased" || recordingStatus === "erased";
  const isWaiting = checkAt !== null || transcriptStatus === "pending" || recordingStatus === "pending";
  if (isErased && !isWaiting) await enqueue(tx, "calls.eraseUpstream", { callId }, { key: callId });
}

type Summaries = Pick<CallRow, "summary" | "shortSummary">;

/** The changes for a summary that arrived or changed after the messages were read. Erased content stays erased. */
export async function withSummaries(tx: Tx, call: CallRow, { summary, shortSummary }: Summaries): Promise<Change> {
  if (call.transcriptStatus === "erased" || call.erasedAt !== null) return {};
  const isNew = summary !== call.summary || shortSummary !== call.shortSummary;
  if (!isNew || call.transcriptStatus !== "ready") return { summary, shortSummary };
  const { outputSchema } = await artifactSettingsOf(tx, call.agentId, call.agentVersion);
  return { summary, shortSummary, ...(await outputAgain(tx, { ...call, summary, shortSummary }, outputSchema)) };
}

const noOutput = { output: null, outputStatus: "none", outputProblems: null } as const;

export function outputOf(schema: OutputSchema, call: CallRow, messages: OutputSources["messages"]): Change {
  if (!schema) return noOutput;
  const { output, problems } = extractOutput(schema, { ...call, messages });
  return {
    // A tool call's arguments are JSON within a text. Escapes in it may decode to characters that Postgres cannot store.
    output: storable(output),
    outputStatus: problems.length > 0 ? "invalid" : "ready",
    outputProblems: problems.length > 0 ? storable(problems) : null,
  };
}

export function messagesOf(tx: Tx, { id, createdAt }: CallRow) {
  return tx
    .select({ role: callMessages.role, toolName: callMessages.toolName, text: callMessages.text })
    .from(callMessages)
    .where(and(eq(callMessages.callId, id), eq(callMessages.createdAt, createdAt)))
    .orderBy(asc(callMessages.index));
}

/** Two statements, whatever the length: the messages, and the search terms. */
async function storeMessages(tx: Tx, { id, createdAt }: CallRow, messages: ProviderMessage[]) {
  if (messages.length === 0) return;
  const rows = messages.map(({ role, text, toolName, startSeconds, endSeconds }, index) => {
    return { index, role, text, tool_name: toolName, start_seconds: startSeconds, end_seconds: endSeconds };
  });
  await tx.execute(sql`
    insert into call_messages (call_id, index, role, text, tool_name, start_seconds, end_seconds, created_at)
    select ${id}, m.index, m.role, m.text, m.tool_name, m.start_seconds, m.end_seconds, ${toIso(createdAt)}::timestamptz
    from json_to_recordset(${JSON.stringify(rows)}::text::json) as m(index int, role text, text text, tool_name text,
      start_seconds float8, end_seconds float8)
    on conflict do nothing`);
  const spoken = messages.filter(({ role }) => role === "user" || role === "agent").map(({ text }) => text);
  await tx.execute(sql`
    insert into call_words (word, call_id)
    select word, ${id} from json_array_elements_text(${JSON.stringify(searchableTerms(spoken))}::text::json) word
    on conflict do nothing`);
}

/** A message carries the status only where it changed (openapi: ultravox.v1.Message.callState). */
function finalStateOf(messages: ProviderMessage[]): Record<string, unknown> | null {
  return messages.findLast(({ status }) => status)?.status ?? null;
}

/** Counted from the end of the call. null: kept without a limit. */
function untilOf({ endedAt }: CallRow, keepDays: Days): Date | null {
  if (keepDays === null || keepDays === undefined || endedAt === null) return null;
  return new Date(endedAt.getTime() + keepDays * 86_400_000);
}
