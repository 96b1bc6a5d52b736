import { expect } from "vitest";
import { phone, type TestApp, until } from "./app.ts";
import { finished } from "./calls.ts";

export type ArtifactRow = {
  id: string;
  client_id: string;
  status: string;
  outcome: string | null;
  outcome_final: boolean;
  summary: string | null;
  short_summary: string | null;
  final_state: Record<string, unknown> | null;
  output: Record<string, unknown> | null;
  output_status: string;
  output_problems: { path: string; message: string }[] | null;
  transcript_status: string;
  transcript_until: Date | null;
  recording_status: string;
  recording_key: string | null;
  recording_bytes: string | null;
  recording_until: Date | null;
  provider_call_id: string;
  ended_at: Date | null;
};

export async function artifactRow({ owner }: TestApp, id: string): Promise<ArtifactRow> {
  const [row] = await owner<ArtifactRow[]>`select * from calls where id = ${id}`;
  if (!row) throw new Error(`There is no call ${id}.`);
  return row;
}

/** An agent whose version has the config of this test, including fields that the API does not accept. */
export async function agentThat(h: TestApp, wishes: object): Promise<string> {
  const { status, body } = await h.post("/agents", {
    name: "Artifacts",
    systemPrompt: "Be brief.",
    maxDurationSeconds: 120,
    ...wishes,
  });
  expect([status, body.error]).toEqual([201, undefined]);
  return body.data.id;
}

export async function place(h: TestApp, agentId: string, more: object = {}, to = "+14155550100"): Promise<string> {
  const { status, body } = await h.post("/calls", { agentId, medium: phone(to), ...more });
  expect([status, body.error]).toEqual([201, undefined]);
  return body.data.id;
}

/** Places a call and waits until it is ended, fetched and billed. */
export async function called(h: TestApp, agentId: string, more: object = {}, to?: string): Promise<ArtifactRow> {
  const id = await place(h, agentId, more, to);
  await finished(h, id);
  return artifactRow(h, id);
}

/** A call in which the agent uses these tools, and which is then ended. */
export async function calledWith(
  h: TestApp,
  agentId: string,
  tools: { name: string; arguments: unknown; state?: object }[],
  more: object = {},
): Promise<ArtifactRow> {
  const id = await place(h, agentId, more, "+14155550015");
  await until(async () => (await artifactRow(h, id)).status === "active");
  const { provider_call_id: upstream } = await artifactRow(h, id);
  for (const tool of tools) await h.simulator.control(`calls/${upstream}/tool`, tool);
  await h.simulator.control(`calls/${upstream}/end`);
  await finished(h, id);
  return artifactRow(h, id);
}

export const recorded = (h: TestApp, id: string, status = "ready", seconds = 20) =>
  until(async () => {
    const row = await artifactRow(h, id);
    return row.recording_status === status ? row : null;
  }, seconds);

export const lookFor = ({ deps }: TestApp, key: string) =>
  deps.providers.files.head(key, { signal: AbortSignal.timeout(30_000) });
