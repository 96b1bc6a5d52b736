import type postgres from "postgres";
import { newId } from "../../../db/ids.ts";

/**
 * The minimum that returns the same: one prepared statement per request, no tenant isolation, no key, no validation. Column
 * names are the fields' names, so that nothing is renamed.
 */
export function statements(sql: postgres.Sql, clientId: string) {
  const columns =
    sql.unsafe(`a.id, a.name, a.status, a.status_reason as "statusReason", a.version, a.metadata, v.config,
    a.created_at as "createdAt", a.updated_at as "updatedAt"`);
  const ofCall =
    sql.unsafe(`c.id, c.agent_id as "agentId", c.agent_version as "agentVersion", c.direction, c.medium as carrier, c."to",
    c."from", c.status, c.outcome, c.outcome_final as "outcomeFinal", c.failure_reason as "failureReason",
    c.end_reason as "endReason", c.variables, c.metadata, c.max_duration_seconds as "maxDurationSeconds",
    c.join_timeout_seconds as "joinTimeoutSeconds", c.recording_enabled as "recordingEnabled",
    c.join_url as "joinUrl", h.amount_micros as "heldMicros", c.cost_micros as "costMicros",
    c.billed_seconds as "billedSeconds", c.duration_seconds as "durationSeconds", c.summary,
    c.transcript_status as "transcriptStatus", c.recording_status as "recordingStatus", c.output,
    c.output_status as "outputStatus", c.output_problems as "outputProblems", c.created_at as "createdAt",
    c.joined_at as "joinedAt", c.ended_at as "endedAt", c.erased_at as "erasedAt"`);
  const flat = ({ config, ...agent }: postgres.Row) => ({ ...agent, ...config });

  return {
    async agent(id: string) {
      const [row] = await sql`select ${columns}
        from agents a
        join agent_versions v on v.client_id = a.client_id and v.agent_id = a.id and v.version = a.version
        where a.client_id = ${clientId} and a.id = ${id}`;
      return row ? flat(row) : null;
    },

    async agents(limit: number) {
      const rows = await sql`select ${columns}
        from agents a
        join agent_versions v on v.client_id = a.client_id and v.agent_id = a.id and v.version = a.version
        where a.client_id = ${clientId}
        order by a.id desc limit ${limit}`;
      return rows.map(flat);
    },

    async webhook(id: string) {
      const [row] = await sql`
        select id, url, description, event_types as "eventTypes", status, payload, signing, public_key as "publicKey",
          header_names as "headerNames", rate_per_second as "ratePerSecond", disabled_code as "disabledCode",
          disabled_at as "disabledAt", missed_since as "missedSince", missed_until as "missedUntil",
          consecutive_failures as "consecutiveFailures", failing_since as "failingSince", last_success_at as "lastSuccessAt",
          last_failure_at as "lastFailureAt", created_at as "createdAt", updated_at as "updatedAt"
        from webhook_endpoints where client_id = ${clientId} and id = ${id} and deleted_at is null`;
      return row ?? null;
    },

    async call(id: string) {
      const [row] = await sql`
        select ${ofCall}
        from calls c left join holds h on h.client_id = c.client_id and h.subject_id = c.id
        where c.client_id = ${clientId} and c.id = ${id}`;
      return row ?? null;
    },

    calls: (limit: number) => sql`
        select ${ofCall}
        from calls c left join holds h on h.client_id = c.client_id and h.subject_id = c.id
        where c.client_id = ${clientId}
        order by c.id desc limit ${limit}`,

    async createAgent({ name, metadata = {}, ...config }: { name: string; metadata?: Record<string, string> }) {
      const id = newId("agent");
      const [row] = await sql`
        with agent as (
          insert into agents (client_id, id, name, status, version, provider_account_id, metadata)
          values (${clientId}, ${id}, ${name}, 'active', 1, 'pacc_platform', ${sql.json(metadata)})
          returning *
        ), version as (
          insert into agent_versions (client_id, agent_id, version, name, config, status, created_by)
          values (${clientId}, ${id}, 1, ${name}, ${sql.json(config)}, 'live', 'bench')
          returning *
        )
        select ${columns} from agent a, version v`;
      return flat(row!);
    },

    async createCall({ agentId, metadata = {} }: { agentId: string; metadata?: Record<string, string> }) {
      const id = newId("call");
      const [row] = await sql`
        insert into calls (client_id, id, agent_id, agent_version, direction, medium, status, variables, metadata,
          max_duration_seconds, join_timeout_seconds, recording_enabled, join_url, provider_account_id, provider_call_id)
        values (${clientId}, ${id}, ${agentId}, 1, 'web', 'web', 'queued', '{}', ${sql.json(metadata)}, 600, 30, true,
          ${`wss://provider.example/${id}`}, 'pacc_platform', ${id})
        returning id, agent_id as "agentId", agent_version as "agentVersion", direction, medium as carrier, "to", "from",
          status, outcome, outcome_final as "outcomeFinal", failure_reason as "failureReason", end_reason as "endReason",
          variables, metadata, max_duration_seconds as "maxDurationSeconds", join_timeout_seconds as "joinTimeoutSeconds",
          recording_enabled as "recordingEnabled", join_url as "joinUrl", cost_micros as "costMicros",
          billed_seconds as "billedSeconds", duration_seconds as "durationSeconds", summary,
          transcript_status as "transcriptStatus", recording_status as "recordingStatus", output,
          output_status as "outputStatus", output_problems as "outputProblems", created_at as "createdAt",
          joined_at as "joinedAt", ended_at as "endedAt", erased_at as "erasedAt"`;
      return row!;
    },
  };
}
