import { eq } from "drizzle-orm";
import { z } from "zod";
import type { Tx } from "../../../db/client.ts";
import { calls } from "../../../db/schema/calls.ts";
import type { ProviderQuery } from "../../core/call-provider.ts";
import { ApiError } from "../../core/errors.ts";
import { examples, Id, Timestamp } from "../../core/fields.ts";
import type { Files } from "../../ports/files.ts";

export const GetRecording = z.strictObject({
  id: Id("call", examples.call),
  expiresInSeconds: z
    .int()
    .min(60)
    .max(86_400)
    .default(900)
    .meta({ description: "How long the link is valid.", examples: [900] }),
});
export type GetRecording = z.output<typeof GetRecording>;

export const Recording = z
  .object({
    url: z.string().meta({
      description: "A link to download the file. It needs no authentication.",
      examples: ["https://files.example.com/…"],
    }),
    expiresAt: Timestamp,
    contentType: z.string().meta({ examples: ["audio/wav"] }),
    bytes: z.int().meta({ examples: [704044] }),
  })
  .meta({ id: "Recording" });
export type Recording = z.output<typeof Recording>;

type StoredRecording = { id: string; key: string; bytes: number };
const contentType = "audio/wav";

/** A link to the recording. It is signed outside the transaction, since signing may fetch credentials first. */
export const linkToRecording = (
  files: Files,
  { id, expiresInSeconds }: GetRecording,
): ProviderQuery<StoredRecording, Recording, Recording> => ({
  read: (tx) => storedRecording(tx, id),
  async execute({ key, bytes }) {
    const expiresAt = new Date(Date.now() + expiresInSeconds * 1000).toISOString();
    const url = await files.presignDownload(key, { fileName: `${id}.wav`, contentType }, expiresInSeconds);
    return { url, expiresAt, contentType, bytes };
  },
});

async function storedRecording(tx: Tx, id: string): Promise<StoredRecording> {
  const [call] = await tx.select().from(calls).where(eq(calls.id, id));
  if (!call) throw new ApiError("call_not_found", `There is no call ${id}.`);
  const { recordingStatus: status, recordingKey: key, recordingBytes: bytes } = call;
  if (status === "ready" && key !== null && bytes !== null) return { id, key, bytes };
  if (status === "pending") throw new ApiError("recording_not_ready");
  const isOngoing = call.status !== "ended" && call.status !== "failed";
  if (status === "none" && isOngoing && call.recordingEnabled)
    throw new ApiError("recording_not_ready", "The call has not ended yet. Try again after its end.");
  throw new ApiError("recording_not_found", reasons[status === "ready" ? "missing" : status]);
}

const reasons = {
  none: "This call was not recorded.",
  missing: "The voice provider did not send the recording of this call. It is requested again from time to time.",
  erased: "The recording of this call was erased.",
} as const;
