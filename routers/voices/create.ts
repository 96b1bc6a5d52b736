import type { Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { voices } from "../../db/schema/voices.ts";
import { currentPrice, holdCredits } from "../billing/ledger.ts";
import type { ProviderQuery } from "../core/call-provider.ts";
import { ApiError } from "../core/errors.ts";
import { accountFor } from "../credentials/accounts.ts";
import type { Files } from "../ports/files.ts";
import type { Cipher } from "../ports/vault.ts";
import { findUploads, type UploadRow, useUploads, verifyUploads } from "../uploads/service.ts";
import { startWorkflow } from "../workflows/service.ts";
import type { ExternalVoice } from "./definition.ts";
import { emitVoiceEvent, toVoice, type VoiceRow } from "./row.ts";
import { maxSampleBytes } from "./samples.ts";
import type { CreateVoice, Voice } from "./schema.ts";
import { workflowOf } from "./training.ts";

const samples = { purpose: "voice_sample" } as const;

/** Looks whether the samples lie in storage as announced, then writes the voice and sets its workflow going. */
export function createVoice(input: CreateVoice, files: Files, ring: Cipher): ProviderQuery<UploadRow[], void, Voice> {
  const { source } = input;
  const fileIds = source.type === "clone" ? source.fileIds : [];
  return {
    async read(tx) {
      const rows = await findUploads(tx, fileIds, samples);
      refuseTooMuch(rows);
      return rows;
    },
    execute: (rows, deadline) => verifyUploads(files, rows, deadline),
    async record(tx) {
      await useUploads(tx, fileIds, samples);
      const row = await insertVoice(tx, input, ring);
      if (row.kind === "clone") await holdForClone(tx, row.id);
      await startWorkflow(tx, workflowOf(row), row.id);
      await emitVoiceEvent(tx, "voice.created", row);
      return toVoice(row);
    },
  };
}

function refuseTooMuch(rows: UploadRow[]) {
  const bytes = rows.reduce((sum, row) => sum + row.bytes, 0);
  if (bytes <= maxSampleBytes) return;
  const path = "source.fileIds";
  const message = `The samples are ${(bytes / 1_000_000).toFixed(1)} MB together; at most 10 MB are taken.`;
  throw new ApiError("input_invalid", `${path}: ${message}`, { details: [{ path, message }] });
}

async function insertVoice(tx: Tx, { source, ...words }: CreateVoice, ring: Cipher): Promise<VoiceRow> {
  const id = newId("voice");
  const common = { id, ...words, status: "pending", providerAccountId: await accountFor(tx) } as const;
  if (source.type === "clone") {
    const clone = { ...common, kind: "clone", provider: "ultravox", sampleIds: source.fileIds } as const;
    const [row] = await tx.insert(voices).values(clone).returning();
    return row!;
  }
  const { provider, voiceId = null, model = null, settings } = source;
  const { headers = {}, ...described } = source.generic ?? {};
  const generic = (source.generic ? described : null) as ExternalVoice["generic"];
  const definition: ExternalVoice = { voiceId, model, settings, generic };
  const sealedHeaders = generic ? ring.seal(JSON.stringify(headers), id) : null;
  const [row] = await tx
    .insert(voices)
    .values({ ...common, kind: "external", provider, definition, sealedHeaders })
    .returning();
  return row!;
}

/** Another company's voice costs nothing here: that company sends its own bill. */
async function holdForClone(tx: Tx, voiceId: string) {
  const price = await currentPrice(tx);
  if (price.voiceCloneMicros > 0) await holdCredits(tx, voiceId, price.voiceCloneMicros, price);
}
