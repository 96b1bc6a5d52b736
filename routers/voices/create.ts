import type { Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { voices } from "../../db/schema/voices.ts";
import { fundsOf, holdCredits } from "../billing/ledger.ts";
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

/** Verifies that the samples are in storage as announced, then creates the voice and starts its workflow. */
export function createVoice(input: CreateVoice, files: Files, cipher: Cipher): ProviderQuery<UploadRow[], void, Voice> {
  const { source } = input;
  const fileIds = source.type === "clone" ? source.fileIds : [];
  return {
    async read(tx) {
      const rows = await findUploads(tx, fileIds, samples);
      refuseTooLarge(rows);
      return rows;
    },
    execute: (rows, deadline) => verifyUploads(files, rows, deadline),
    async record(tx) {
      await useUploads(tx, fileIds, samples);
      const row = await insertVoice(tx, input, cipher);
      if (row.kind === "clone") await holdForClone(tx, row.id);
      await startWorkflow(tx, workflowOf(row), row.id);
      await emitVoiceEvent(tx, "voice.created", row);
      return toVoice(row);
    },
  };
}

function refuseTooLarge(rows: UploadRow[]) {
  const bytes = rows.reduce((sum, row) => sum + row.bytes, 0);
  if (bytes <= maxSampleBytes) return;
  const message = `The samples have ${(bytes / 1_000_000).toFixed(1)} MB in total. Send at most 10 MB.`;
  throw ApiError.invalid("source.fileIds", message);
}

async function insertVoice(tx: Tx, { source, ...fields }: CreateVoice, cipher: Cipher): Promise<VoiceRow> {
  const id = newId("voice");
  const common = { id, ...fields, status: "pending", providerAccountId: await accountFor(tx) } as const;
  if (source.type === "clone") {
    const clone = { ...common, kind: "clone", provider: "ultravox", sampleIds: source.fileIds } as const;
    const [row] = await tx.insert(voices).values(clone).returning();
    return row!;
  }
  const { provider, voiceId = null, model = null, settings } = source;
  const { headers = {}, ...described } = source.generic ?? {};
  const generic = (source.generic ? described : null) as ExternalVoice["generic"];
  const definition: ExternalVoice = { voiceId, model, settings, generic };
  const sealedHeaders = generic ? cipher.seal(JSON.stringify(headers), id) : null;
  const [row] = await tx
    .insert(voices)
    .values({ ...common, kind: "external", provider, definition, sealedHeaders })
    .returning();
  return row!;
}

/** Only clones cost credits. The vendor of an external voice bills it directly. */
async function holdForClone(tx: Tx, voiceId: string) {
  const funds = await fundsOf(tx);
  const { voiceCloneMicros } = funds.price;
  if (voiceCloneMicros > 0) await holdCredits(tx, voiceId, voiceCloneMicros, funds);
}
