import { sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { waitingJobs } from "../../db/queue.ts";
import { ApiError } from "../core/errors.ts";
import type { AccountRow, CredentialRow } from "./service.ts";

type Use = { kind: string; id: string; name: string };

/** At most so many are named; one would do to refuse. */
const named = 20;

/** Refuses while something needs the credential, and names it. */
export async function refuseInUse(tx: Tx, row: CredentialRow) {
  refuse(
    await tx.execute<Use>(sql`
      select 'agents' as kind, a.id, a.name from agent_uses u join agents a on a.client_id = u.client_id and a.id = u.agent_id
        where u.kind = 'credential' and u.target_id = ${row.id} and a.status in ('provisioning', 'active')
      union all
      select 'tools', t.id, t.name from tools t where t.status in ('provisioning', 'active')
        and jsonb_path_exists(jsonb_build_array(t.config, t.pending), '$[*].**.auth.** ? (@ == $provider || @ == $id)'::jsonpath,
          jsonb_build_object('provider', ${row.provider}::text, 'id', ${row.id}::text))
      union all
      select 'voices', v.id, v.name from voices v where v.status in ('pending', 'training', 'active')
        and v.kind = 'external' and lower(v.provider) = ${row.provider}
      order by 1, 2 limit ${named}`),
    `Something still needs the credential for ${row.provider}.`,
  );
}

/** Refuses while something that was made in this account is there. */
export async function refuseInhabited(tx: Tx, account: AccountRow) {
  const made = (table: string, statuses: string) => sql`
    select ${table}::text as kind, id, name from ${sql.identifier(table)}
    where provider_account_id = ${account.id} and status = any(string_to_array(${statuses}::text, ','))`;
  refuse(
    await tx.execute<Use>(sql`
      ${made("agents", "provisioning,active")} union all ${made("tools", "provisioning,active")} union all
      ${made("voices", "pending,training,active")} union all ${made("knowledge_bases", "empty,ingesting,ready,failed")}
      order by 1, 2 limit ${named}`),
    "What was made in your own Ultravox account lives there and would fail.",
  );
}

/** Whose calls go on must not lose the key: nobody could say any more how they ended and what they cost. */
export async function refuseLiveCalls(tx: Tx, account: AccountRow) {
  refuse(
    await tx.execute<Use>(sql`
      select 'calls' as kind, id, status as name from calls
      where provider_account_id = ${account.id} and status in ('queued', 'unknown', 'ringing', 'active')
      order by 2 limit ${named}`),
    "Calls are going on in your own Ultravox account. End them first.",
  );
}

/** Nor whose calls are over and not billed yet: nobody could say any more what they cost. */
export async function refuseUnbilledCalls(tx: Tx, account: AccountRow) {
  refuse(
    await tx.execute<Use>(sql`
      select 'calls' as kind, id, status as name from calls
      where provider_account_id = ${account.id} and check_at is not null
      order by 2 limit ${named}`),
    "The bills of calls in your own Ultravox account are not known yet. Try again in a minute, or use `force`.",
  );
}

const removals = ["upstream.remove", "calls.eraseUpstream", "knowledge.forget", "voices.clear"] as const;

/** Is an account that was given up needed still: for what its calls leave behind, or for what is to go there? */
export async function isNeeded(tx: Tx, accountId: string): Promise<boolean> {
  const [row] = await tx.execute<{ needed: boolean }>(sql`
    select exists (
      select from calls where provider_account_id = ${accountId}
        and (check_at is not null or transcript_status = 'pending' or recording_status = 'pending')
    ) or exists (
      select from ${waitingJobs(removals)} job left join calls c on c.id = job.body->>'callId'
      where coalesce(job.body->>'accountId', c.provider_account_id) = ${accountId}
    ) as needed`);
  return row!.needed;
}

function refuse(uses: Iterable<Use>, message: string) {
  const details = [...uses].map(({ kind, id, name }) => ({ path: kind, message: `${id} (${name})` }));
  if (details.length > 0) throw new ApiError("credential_in_use", message, { details });
}
