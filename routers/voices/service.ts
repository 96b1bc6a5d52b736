import { and, desc, eq, lt, ne, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { type Given, hotRead, pages } from "../../db/prepared.ts";
import { enqueue } from "../../db/queue.ts";
import { agents, agentUses } from "../../db/schema/agents.ts";
import { voices } from "../../db/schema/voices.ts";
import { ApiError } from "../core/errors.ts";
import {
  containsText,
  createdValues,
  createdWithin,
  hasMetadata,
  type MetadataValues,
  metadataValues,
} from "../core/list-filters.ts";
import { canonical, type ListKey, readCursor, toPage } from "../core/pagination.ts";
import { resyncAgentsUsing } from "../core/resync-agents.ts";
import { dropUploads } from "../uploads/service.ts";
import { emitVoiceEvent, lockVoice, removeUpstream, setVoice, toVoice, type VoiceRow, voiceNotFound } from "./row.ts";
import type { ListVoices, RemoveVoice, UpdateVoice, Voice } from "./schema.ts";
import { endWorkflow, releaseCredits } from "./training.ts";
import { isBeingMade } from "./transitions.ts";

export async function getVoice(tx: Tx, id: string): Promise<Voice> {
  const [row] = await voiceById(tx, { id });
  if (!row) throw voiceNotFound(id);
  return toVoice(row);
}

const voiceById = hotRead((db) =>
  db
    .select()
    .from(voices)
    .where(and(eq(voices.id, sql.placeholder("id")), ne(voices.status, "deleted"))),
);

export async function findVoice(tx: Tx, id: string): Promise<VoiceRow> {
  const [row] = await tx
    .select()
    .from(voices)
    .where(and(eq(voices.id, id), ne(voices.status, "deleted")));
  if (!row) throw voiceNotFound(id);
  return row;
}

export async function listVoices(tx: Tx, { limit, cursor, ...filters }: ListVoices, key: ListKey) {
  const { status, kind, provider, language, search, metadata } = filters;
  const given = { status, kind, provider, language, search, ...createdValues(filters), ...metadataValues(metadata) };
  const rows = await voicePages(tx, { ...given, before: readCursor(key, cursor), limit: limit + 1 });
  return toPage(key, rows.map(toVoice), limit, ({ id }) => id);
}

type Filters = keyof Omit<ListVoices, "cursor" | "limit" | "metadata"> | MetadataValues;

const voicePages = pages((db, given: Given<Filters>) =>
  db
    .select()
    .from(voices)
    .where(
      and(
        given.before && lt(voices.id, given.before),
        given.status ? eq(voices.status, given.status) : ne(voices.status, "deleted"),
        given.kind && eq(voices.kind, given.kind),
        given.provider && eq(voices.provider, given.provider),
        given.language && sql`lower(${voices.language}) = lower(${given.language})`,
        containsText(voices.name, given.search),
        createdWithin(voices.createdAt, given),
        hasMetadata(voices.metadata, given),
      ),
    )
    .orderBy(desc(voices.id))
    .limit(sql.placeholder("limit")),
);

/** A job sends a new language or description to the provider. They do not change the sound of the voice. */
export async function updateVoice(tx: Tx, { id, ...changes }: UpdateVoice): Promise<Voice> {
  const row = await lockVoice(tx, id);
  const given = Object.entries(changes).filter(([, value]) => value !== undefined);
  const changed = given.filter(([name, value]) => !isSame(value, row[name as keyof typeof changes]));
  if (changed.length === 0) return toVoice(row);
  const isSyncedUpstream = changed.some(([name]) => name === "language" || name === "description");
  if (isSyncedUpstream && row.status === "training") {
    const message = `Voice ${id} is in training with its language and description. Change them once it is active.`;
    throw new ApiError("voice_busy", message, { retryAfterSeconds: 10 });
  }
  const updated = await setVoice(tx, id, Object.fromEntries(changed));
  if (isSyncedUpstream && updated.status === "active") await enqueue(tx, "voices.sync", { voiceId: id }, { key: id });
  await emitVoiceEvent(tx, "voice.updated", updated);
  return toVoice(updated);
}

const isSame = (one: unknown, other: unknown) => JSON.stringify(canonical(one)) === JSON.stringify(canonical(other));

/** Deletes a voice with its credit hold, its samples, and what the provider has or may still create. */
export async function removeVoice(tx: Tx, { id, force }: RemoveVoice): Promise<void> {
  await endWorkflow(tx, id, "failed");
  const row = await lockVoice(tx, id);
  if (!force) await refuseUsed(tx, id);
  const deleted = await setVoice(tx, id, { status: "deleted", sealedHeaders: null });
  if (isBeingMade(row.status)) await releaseCredits(tx, row);
  if (row.providerVoiceId) await removeUpstream(tx, row, row.providerVoiceId);
  await dropUploads(tx, row.sampleIds);
  await resyncAgentsUsing(tx, "voice", id);
  await emitVoiceEvent(tx, "voice.deleted", deleted);
}

/** The caller holds the voice's lock. An agent that adds the voice needs that lock too, so none can appear meanwhile. */
async function refuseUsed(tx: Tx, id: string) {
  const users = await tx
    .selectDistinct({ id: agents.id, name: agents.name })
    .from(agentUses)
    .innerJoin(agents, and(eq(agents.clientId, agentUses.clientId), eq(agents.id, agentUses.agentId)))
    .where(and(eq(agentUses.kind, "voice"), eq(agentUses.targetId, id), ne(agents.status, "deleted")))
    .orderBy(agents.id)
    .limit(20);
  if (users.length === 0) return;
  const details = users.map((agent) => ({
    path: "agent",
    ...agent,
    message: `The agent ${agent.name} uses this voice.`,
  }));
  const message = "Agents use this voice (see details). Give them another one, or pass force=true to delete it anyway.";
  throw new ApiError("voice_in_use", message, { details });
}

export function notActive({ id, status, statusReason }: VoiceRow): ApiError {
  const reason = statusReason ? `: ${statusReason}` : "";
  return new ApiError("voice_not_active", `Voice ${id} is ${status}${reason}.`);
}
