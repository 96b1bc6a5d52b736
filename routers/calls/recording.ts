import { eq } from "drizzle-orm";
import { z } from "zod";
import type { Tx } from "../../db/client.ts";
import { calls } from "../../db/schema/calls.ts";
import { Fault } from "../fault.ts";
import type { Files } from "../providers/files.ts";
import type { Consultation } from "../trpc/asking.ts";
import { examples, Id, Instant } from "../words.ts";

export const GetRecording = z.strictObject({
  id: Id("call", examples.call),
  expiresInSeconds: z
    .int()
    .min(60)
    .max(86_400)
    .default(900)
    .meta({ description: "How long the link is good for.", examples: [900] }),
});
export type GetRecording = z.output<typeof GetRecording>;

export const Recording = z
  .object({
    url: z
      .string()
      .meta({ description: "Anybody who has it can download the file.", examples: ["https://files.example.com/…"] }),
    expiresAt: Instant,
    contentType: z.string().meta({ examples: ["audio/wav"] }),
    bytes: z.int().meta({ examples: [704044] }),
  })
  .meta({ id: "Recording" });
export type Recording = z.output<typeof Recording>;

type Kept = { id: string; key: string; bytes: number };
const contentType = "audio/wav";

/** A link to the recording, signed when the transaction is over: whoever signs may have to ask for credentials first. */
export const linkToRecording = (
  files: Files,
  { id, expiresInSeconds }: GetRecording,
): Consultation<Kept, Recording, Recording> => ({
  read: (tx) => keptRecording(tx, id),
  async ask({ key, bytes }) {
    const expiresAt = new Date(Date.now() + expiresInSeconds * 1000).toISOString();
    const url = await files.presignDownload(key, { fileName: `${id}.wav`, contentType }, expiresInSeconds);
    return { url, expiresAt, contentType, bytes };
  },
});

async function keptRecording(tx: Tx, id: string): Promise<Kept> {
  const [call] = await tx.select().from(calls).where(eq(calls.id, id));
  if (!call) throw new Fault("call_not_found", `There is no call ${id}.`);
  const { recordingState: state, recordingKey: key, recordingBytes: bytes } = call;
  if (state === "ready" && key !== null && bytes !== null) return { id, key, bytes };
  if (state === "pending") throw new Fault("recording_not_ready");
  const goesOn = call.status !== "ended" && call.status !== "failed";
  if (state === "none" && goesOn && call.recordingEnabled)
    throw new Fault("recording_not_ready", "The call has not ended yet.");
  throw new Fault("recording_not_found", reasons[state === "ready" ? "missing" : state]);
}

const reasons = {
  none: "This call was not recorded.",
  missing: "The voice provider has not given the recording of this call. It is asked again now and then.",
  erased: "The recording of this call is erased.",
} as const;
