import { eq } from "drizzle-orm";
import type { PgUpdateSetSource } from "drizzle-orm/pg-core";
import type { Tx } from "../../db/client.ts";
import { type EventType, emit } from "../../db/events.ts";
import type { Wire } from "../../db/prepared.ts";
import { enqueue } from "../../db/queue.ts";
import { voices } from "../../db/schema/voices.ts";
import { dbNow } from "../../db/time.ts";
import { ApiError } from "../core/errors.ts";
import { toIso } from "../core/fields.ts";
import type { ExternalVoice } from "./definition.ts";
import type { Voice } from "./schema.ts";

export type VoiceRow = typeof voices.$inferSelect;

export const voiceNotFound = (id: string) => new ApiError("voice_not_found", `There is no voice ${id}.`);

/** Locks a voice until the transaction ends. A deleted voice is not found. */
export async function lockVoice(tx: Tx, id: string): Promise<VoiceRow> {
  const row = await lockAnyVoice(tx, id);
  if (!row || row.status === "deleted") throw voiceNotFound(id);
  return row;
}

/** Reads a voice without a lock, also a deleted one. */
export async function readVoiceRow(tx: Tx, id: string): Promise<VoiceRow | null> {
  const [row] = await tx.select().from(voices).where(eq(voices.id, id));
  return row ?? null;
}

export async function lockAnyVoice(tx: Tx, id: string): Promise<VoiceRow | null> {
  const [row] = await tx.select().from(voices).where(eq(voices.id, id)).for("update");
  return row ?? null;
}

export async function setVoice(tx: Tx, id: string, set: PgUpdateSetSource<typeof voices>): Promise<VoiceRow> {
  const [row] = await tx
    .update(voices)
    .set({ ...set, updatedAt: dbNow() })
    .where(eq(voices.id, id))
    .returning();
  return row!;
}

export async function emitVoiceEvent(tx: Tx, type: Extract<EventType, `voice.${string}`>, row: VoiceRow) {
  const { id, name, kind, provider, language, status, statusReason } = row;
  await emit(tx, type, id, { id, name, kind, provider, language, status, statusReason });
}

export function toVoice(row: Wire<VoiceRow>): Voice {
  const { id, name, description, language, metadata, kind, status, statusReason } = row;
  return {
    id,
    name,
    description,
    language,
    metadata,
    kind,
    provider: row.provider as Voice["provider"], // createVoice writes only values of this type
    source: kind === "clone" ? { type: "clone", fileIds: row.sampleIds } : { type: "external", ...externalOf(row) },
    status,
    statusReason,
    createdAt: toIso(row.createdAt),
    updatedAt: toIso(row.updatedAt),
  };
}

/** `createVoice` writes this type to the column. */
export const externalOf = ({ definition }: Pick<VoiceRow, "definition">) => definition as ExternalVoice;

export const removeUpstream = (tx: Tx, { providerAccountId }: VoiceRow, providerId: string) =>
  enqueue(tx, "upstream.remove", { kind: "voice", accountId: providerAccountId, providerId }, { key: providerId });
