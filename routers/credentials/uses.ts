import { sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { waitingJobs } from "../../db/queue.ts";
import { ApiError } from "../core/errors.ts";
import type { AccountRow, CredentialRow } from "./service.ts";

type Use = { kind: string; id: string; name: string };

/** The most resources that an error lists. */
const maxListed = 20;

/** Throws `credential_in_use` with the agents, tools and voices that use the credential. */
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
      order by 1, 2 limit ${maxListed}`),
    `The credential for ${row.provider} is in use (see details). Delete those resources first, or use \`force\`.`,
  );
}

/** Throws while the account contains resources. */
export async function refuseNonEmpty(tx: Tx, account: AccountRow) {
  const resourcesIn = (table: string, statuses: string) => sql`
    select ${table}::text as kind, id, name from ${sql.identifier(table)}
    where provider_account_id = ${account.id} and status = any(string_to_array(${statuses}::text, ','))`;
  refuse(
    await tx.execute<Use>(sql`
      ${resourcesIn("agents", "provisioning,active")} union all ${resourcesIn("tools", "provisioning,active")} union all
      ${resourcesIn("voices", "pending,training,active")} union all ${resourcesIn("knowledge_bases", "empty,ingesting,ready,failed")}
      order by 1, 2 limit ${maxListed}`),
    "Your Ultravox account contains resources that would fail (see details). Delete them first, or use `force`.",
  );
}

/** Throws while calls are running: without the key, their end and their cost could not be read. */
export async function refuseLiveCalls(tx: Tx, account: AccountRow) {
  refuse(
    await tx.execute<Use>(sql`
      select 'calls' as kind, id, status as name from calls
      where provider_account_id = ${account.id} and status in ('queued', 'unknown', 'ringing', 'active')
      order by 2 limit ${maxListed}`),
    "Calls are running in your Ultravox account (see details). End them first.",
  );
}

/** Throws while ended calls are not billed yet: without the key, their cost could not be read. */
export async function refuseUnbilledCalls(tx: Tx, account: AccountRow) {
  refuse(
    await tx.execute<Use>(sql`
      select 'calls' as kind, id, status as name from calls
      where provider_account_id = ${account.id} and check_at is not null
      order by 2 limit ${maxListed}`),
    "Calls in your Ultravox account are not billed yet (see details). Try again in a minute, or use `force`.",
  );
}

const removals = ["upstream.remove", "calls.eraseUpstream", "knowledge.forget", "voices.clear"] as const;

/** Whether a retired account is still needed: for open calls and their recordings, or for deletions that wait. */
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
  const details = [...uses].map(({ kind, id, name }) => ({
    path: kind,
    id,
    name,
    message: "This resource uses the credential.",
  }));
  if (details.length > 0) throw new ApiError("credential_in_use", message, { details });
}
