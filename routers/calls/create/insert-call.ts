import type { Tx } from "../../../db/client.ts";
import type { calls } from "../../../db/schema/calls.ts";
import { statement } from "../../../db/statement.ts";

type Row = typeof calls.$inferSelect;
/** What is known of a call before the provider has it. */
export type NewCall = Pick<Row, "id" | "agentId" | "agentVersion" | "direction" | "medium" | "to" | "from"> &
  Pick<Row, "variables" | "metadata" | "overrides" | "maxDurationSeconds" | "joinTimeoutSeconds" | "recordingEnabled"> &
  Pick<Row, "providerAccountId">;

const insert = statement(`
  with call as (
    insert into calls (id, agent_id, agent_version, direction, medium, "to", "from", status, variables, metadata, overrides,
      max_duration_seconds, join_timeout_seconds, recording_enabled, provider_account_id)
    values ($1, $2, $3, $4, $5, $6, $7, 'queued', $8::text::jsonb, $9::text::jsonb, $10::text::jsonb, $11, $12, $13, $14)
    returning id
  ) -- its metadata, for filters
  insert into call_pairs (key, value, call_id) select pair.key, pair.value, call.id
  from call, json_each_text($9::text::json) pair`);

/** Writes a call and the index of its metadata, in one statement, which is sent before this returns. */
export function insertCall(tx: Tx, call: NewCall) {
  const { id, agentId, agentVersion, direction, medium, to, from, overrides } = call;
  const { maxDurationSeconds, joinTimeoutSeconds, recordingEnabled, providerAccountId } = call;
  const [variables, metadata] = [JSON.stringify(call.variables), JSON.stringify(call.metadata)];
  const contents = [variables, metadata, overrides === null ? null : JSON.stringify(overrides)];
  const limits = [maxDurationSeconds, joinTimeoutSeconds, recordingEnabled, providerAccountId];
  return insert(tx, [id, agentId, agentVersion, direction, medium, to, from, ...contents, ...limits]);
}
