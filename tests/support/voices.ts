import { createHash } from "node:crypto";
import { expect } from "vitest";
import { newId } from "../../db/ids.ts";
import { type TestApp, until } from "./app.ts";
import { wavFile } from "./audio.ts";
import { hurry } from "./calls.ts";

export type VoiceRow = {
  id: string;
  status: string;
  status_reason: string | null;
  provider_voice_id: string | null;
  definition: unknown;
  checked_at: Date | null;
};

const priceMicros = 1_000_000;

/** Sets the price of a clone from now on: a new row, since prices never change. */
export async function priceClones({ owner }: TestApp, micros = priceMicros) {
  await owner`
    insert into prices select (jsonb_populate_record(p, jsonb_build_object('id', ${newId("price")}::text,
      'voice_clone_micros', ${micros}::bigint, 'effective_from', clock_timestamp()))).*
    from prices p where p.client_id is null order by p.effective_from desc, p.id desc limit 1`;
  return micros;
}

/** Announces a sample, uploads it and returns its id. */
export async function sendSample(
  h: TestApp,
  bytes: Buffer = wavFile(Buffer.from("a voice, speaking ")),
  { fileName = "sample.wav", contentType = "audio/wav", key = h.ada.key } = {},
): Promise<string> {
  const sha256 = createHash("sha256").update(bytes).digest("base64");
  const files = [{ fileName, contentType, bytes: bytes.length, sha256 }];
  const { status, body } = await h.post("/voices/files/presign", { files }, { key });
  expect(status, JSON.stringify(body)).toBe(201);
  const { id, url, method, headers } = body.data.files[0];
  const put = await fetch(url, { method, headers, body: new Uint8Array(bytes) });
  expect(put.status).toBe(200);
  return id;
}

export const cloneOf = (...fileIds: string[]) => ({ name: "Ada", source: { type: "clone", fileIds } });

export async function voiceRow({ owner }: TestApp, id: string): Promise<VoiceRow> {
  const [row] = await owner<VoiceRow[]>`select * from voices where id = ${id}`;
  if (!row) throw new Error(`There is no voice ${id}.`);
  return row;
}

/** Waits for a status. The workflow's delays between attempts are skipped. */
export function inState(h: TestApp, id: string, status: string, seconds = 20): Promise<VoiceRow> {
  return until(async () => {
    await hurry(h, "workflows.advance");
    const row = await voiceRow(h, id);
    return row.status === status ? row : null;
  }, seconds);
}

type Upstream = {
  id: string;
  account: string;
  name: string;
  primaryLanguage: string;
  definition: Record<string, { url?: string; headers?: Record<string, string>; [name: string]: unknown }>;
  sample: { bytes: number; sha256: string } | null;
};

/** The provider's voices under the name of a voice. */
export async function upstreamOf({ simulator }: TestApp, id: string): Promise<Upstream[]> {
  const response = await fetch(`${simulator.url}/_sim/voices`);
  const { voices } = (await response.json()) as { voices: Upstream[] };
  return voices.filter(({ name }) => name === id);
}
