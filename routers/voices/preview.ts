import type { Tx } from "../../db/client.ts";
import type { Chunks } from "../core/reply.ts";
import type { Deadline } from "../ports/provider-error.ts";
import type { Ultravox } from "../ports/ultravox.ts";
import { findVoice, notActive } from "./service.ts";

const previewMs = 20_000;

/** The voice to preview. Throws `voice_not_active` unless it is active. */
export async function findPreviewVoice(tx: Tx, id: string): Promise<[accountId: string, providerVoiceId: string]> {
  const row = await findVoice(tx, id);
  if (row.status !== "active" || !row.providerVoiceId) throw notActive(row);
  return [row.providerAccountId, row.providerVoiceId];
}

/** Streams a sample sentence from the provider as WAV. Throws ProviderError. */
export async function preview(
  ultravox: Ultravox,
  [accountId, providerVoiceId]: [string, string],
  { signal }: Deadline,
): Promise<Chunks> {
  const deadline = { signal: AbortSignal.any([signal, AbortSignal.timeout(previewMs)]) };
  const { chunks } = await ultravox.previewVoice(accountId, providerVoiceId, deadline);
  return { chunks, fileName: "preview.wav" };
}
