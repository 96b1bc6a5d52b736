import type { Tx } from "../../db/client.ts";
import type { Chunks } from "../core/reply.ts";
import type { Deadline } from "../ports/provider-error.ts";
import type { Ultravox } from "../ports/ultravox.ts";
import { findVoice, notActive } from "./service.ts";

const previewMs = 20_000;

/** What the provider is asked for: only an active voice can speak. */
export async function speaker(tx: Tx, id: string): Promise<[accountId: string, providerVoiceId: string]> {
  const row = await findVoice(tx, id);
  if (row.status !== "active" || !row.providerVoiceId) throw notActive(row);
  return [row.providerAccountId, row.providerVoiceId];
}

/** The provider says a sentence with it, and so shows that it can. Throws ProviderError. */
export async function preview(
  ultravox: Ultravox,
  [accountId, providerVoiceId]: [string, string],
  { signal }: Deadline,
): Promise<Chunks> {
  const deadline = { signal: AbortSignal.any([signal, AbortSignal.timeout(previewMs)]) };
  const { chunks } = await ultravox.previewVoice(accountId, providerVoiceId, deadline);
  return { chunks, fileName: "preview.wav" };
}
