import { sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { enqueue } from "../../../db/queue.ts";
import { calls } from "../../../db/schema/calls.ts";
import { eraseUpstreamIfDone, recordingKey } from "./artifacts.ts";
import { eraseCopies } from "./erase-copies.ts";

type Due = {
  clientId: string;
  id: string;
  createdAt: string;
  transcript: boolean;
  recording: boolean;
};

/** Ids of calls of one client whose transcript or recording is past its retention, except the given ones. */
export async function listDue(tx: Tx, atMost: number, except: readonly string[]): Promise<string[]> {
  const rows = await tx.execute<{ id: string }>(sql`
    select id from calls
    where (transcript_until <= now() or recording_until <= now())
      and id not in (select json_array_elements_text(${JSON.stringify(except)}::text::json))
    limit ${atMost}`);
  return rows.map(({ id }) => id);
}

/**
 * Erases transcripts and recordings that are past their retention, for these calls of one client. Returns the number of calls.
 * One transaction, which also enqueues the removal of the files. Calls locked by another transaction wait for the next run.
 */
export async function eraseCalls(tx: Tx, ids: readonly string[]): Promise<number> {
  const due = await lockDue(tx, ids);
  if (due.length === 0) return 0;
  const transcripts = due.filter(({ transcript }) => transcript);
  const recordings = due.filter(({ recording }) => recording);
  if (transcripts.length > 0) await eraseTranscripts(tx, transcripts);
  for (const { id } of transcripts) await eraseCopies(tx, id);
  if (recordings.length > 0) await eraseRecordings(tx, recordings);
  const changed = sql`${calls.id} in (select json_array_elements_text(${idsOf(due)}::text::json))`;
  for (const call of await tx.select().from(calls).where(changed)) await eraseUpstreamIfDone(tx, call);
  return due.length;
}

function lockDue(tx: Tx, ids: readonly string[]): Promise<Due[]> {
  return tx.execute<Due>(sql`
    select client_id as "clientId", id, created_at::text as "createdAt",
      coalesce(transcript_until <= now(), false) as transcript,
      coalesce(recording_until <= now(), false) as recording
    from calls
    where (transcript_until <= now() or recording_until <= now())
      and id in (select json_array_elements_text(${JSON.stringify(ids)}::text::json))
    for update skip locked`);
}

/** Also erases what was derived from the transcript: summary, output and the state that the tools left. */
async function eraseTranscripts(tx: Tx, due: Due[]) {
  const ids = idsOf(due);
  const created = due.map(({ createdAt }) => createdAt).toSorted();
  // The bounds skip the partitions of other months. A message has the time of its call, cut to the millisecond.
  await tx.execute(sql`
    delete from call_messages where call_id in (select json_array_elements_text(${ids}::text::json))
      and created_at between ${created[0]}::text::timestamptz - interval '1 second'
        and ${created.at(-1)}::text::timestamptz + interval '1 second'`);
  await tx.execute(sql`
    delete from call_words where call_id in (select json_array_elements_text(${ids}::text::json))`);
  await tx.execute(sql`
    update calls set transcript_status = 'erased', transcript_until = null, summary = null, short_summary = null,
      final_state = null, output = null, output_status = 'none', output_problems = null, updated_at = clock_timestamp()
    where id in (select json_array_elements_text(${ids}::text::json))`);
}

async function eraseRecordings(tx: Tx, due: Due[]) {
  await enqueue(tx, "files.remove", { keys: due.map(recordingKey) });
  await tx.execute(sql`
    update calls set recording_until = null, recording_key = null, recording_bytes = null, updated_at = clock_timestamp(),
      recording_status = case when recording_status = 'none' then 'none' else 'erased' end
    where id in (select json_array_elements_text(${idsOf(due)}::text::json))`);
}

/** One parameter, so that the statement text does not depend on the number of ids. */
const idsOf = (due: Due[]) => JSON.stringify(due.map(({ id }) => id));
