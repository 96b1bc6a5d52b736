import { and, desc, eq, lt, ne, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { enqueue } from "../../db/queue.ts";
import { agents, agentUses } from "../../db/schema/agents.ts";
import { voices } from "../../db/schema/voices.ts";
import { ApiError } from "../core/errors.ts";
import { canonical, type ListKey, readCursor, toPage } from "../core/pagination.ts";
import { resyncAgentsUsing } from "../core/resync-agents.ts";
import { dropUploads } from "../uploads/service.ts";
import { emitVoiceEvent, lockVoice, removeUpstream, setVoice, toVoice, type VoiceRow, voiceNotFound } from "./row.ts";
import type { ListVoices, RemoveVoice, UpdateVoice, Voice } from "./schema.ts";
import { endWorkflow, giveBack } from "./training.ts";
import { isBeingMade } from "./transitions.ts";

export async function getVoice(tx: Tx, id: string): Promise<Voice> {
  return toVoice(await findVoice(tx, id));
}

export async function findVoice(tx: Tx, id: string): Promise<VoiceRow> {
  const [row] = await tx
    .select()
    .from(voices)
    .where(and(eq(voices.id, id), ne(voices.status, "deleted")));
  if (!row) throw voiceNotFound(id);
  return row;
}

export async function listVoices(tx: Tx, { limit, cursor, ...filters }: ListVoices, key: ListKey) {
  const before = readCursor(key, cursor);
  const rows = await tx
    .select()
    .from(voices)
    .where(
      and(
        before === null ? undefined : lt(voices.id, before),
        filters.status ? eq(voices.status, filters.status) : ne(voices.status, "deleted"),
        filters.kind && eq(voices.kind, filters.kind),
        filters.provider && eq(voices.provider, filters.provider),
        filters.language ? sql`lower(${voices.language}) = lower(${filters.language})` : undefined,
        filters.search ? sql`strpos(lower(${voices.name}), lower(${filters.search})) > 0` : undefined,
      ),
    )
    .orderBy(desc(voices.id))
    .limit(limit + 1);
  return toPage(key, rows.map(toVoice), limit, ({ id }) => id);
}

/** The provider hears of a new language or description by a job: its copy of them changes nothing about the voice. */
export async function updateVoice(tx: Tx, { id, ...changes }: UpdateVoice): Promise<Voice> {
  const row = await lockVoice(tx, id);
  const given = Object.entries(changes).filter(([, value]) => value !== undefined);
  const changed = given.filter(([name, value]) => !same(value, row[name as keyof typeof changes]));
  if (changed.length === 0) return toVoice(row);
  const isToldUpstream = changed.some(([name]) => name === "language" || name === "description");
  if (isToldUpstream && row.status === "training") {
    const message = `Voice ${id} is being trained with its language and description. Change them once it is active.`;
    throw new ApiError("voice_busy", message, { retryAfterSeconds: 10 });
  }
  const updated = await setVoice(tx, id, Object.fromEntries(changed));
  if (isToldUpstream && updated.status === "active") await enqueue(tx, "voices.sync", { voiceId: id }, { key: id });
  await emitVoiceEvent(tx, "voice.updated", updated);
  return toVoice(updated);
}

const same = (one: unknown, other: unknown) => JSON.stringify(canonical(one)) === JSON.stringify(canonical(other));

/** Nothing is left of it: not its credits held, not its samples, not what the provider has or may come to have. */
export async function removeVoice(tx: Tx, { id, force }: RemoveVoice): Promise<void> {
  await endWorkflow(tx, id, "failed");
  const row = await lockVoice(tx, id);
  if (!force) await refuseUsed(tx, id);
  const deleted = await setVoice(tx, id, { status: "deleted", sealedHeaders: null });
  if (isBeingMade(row.status)) await giveBack(tx, row);
  if (row.providerVoiceId) await removeUpstream(tx, row, row.providerVoiceId);
  await dropUploads(tx, row.sampleIds);
  await resyncAgentsUsing(tx, "voice", id);
  await emitVoiceEvent(tx, "voice.deleted", deleted);
}

/** The row is locked by now, and an agent that begins to use it must lock it too: none slips in between. */
async function refuseUsed(tx: Tx, id: string) {
  const users = await tx
    .selectDistinct({ id: agents.id, name: agents.name })
    .from(agentUses)
    .innerJoin(agents, and(eq(agents.clientId, agentUses.clientId), eq(agents.id, agentUses.agentId)))
    .where(and(eq(agentUses.kind, "voice"), eq(agentUses.targetId, id), ne(agents.status, "deleted")))
    .orderBy(agents.id)
    .limit(100);
  if (users.length === 0) return;
  const details = users.map((agent) => ({
    path: agent.id,
    message: `The agent ${agent.name} speaks with this voice.`,
  }));
  const message = `Agents speak with voice ${id}: ${users.length}. Give them another one, or delete with force=true.`;
  throw new ApiError("voice_in_use", message, { details });
}

export function notActive({ id, status, statusReason }: VoiceRow): ApiError {
  const why = statusReason ? `: ${statusReason}` : "";
  return new ApiError("voice_not_active", `Voice ${id} is ${status}${why}.`);
}
