import type postgres from "postgres";
import { newId } from "../../db/ids.ts";

type Owner = postgres.Sql;

/** A client with calls, and the values that the measured filters use. */
export type Crowd = { clientId: string; calls: number; agentId: string; number: string; since: Date; until: Date };

const days = 180;
const tables = ["calls", "call_pairs", "call_words", "holds", "agents"];

type Seeding = {
  calls: number;
  clients: number;
  /** Leaves statistics to autovacuum, as in production. Otherwise plans depend on the analyze here. */
  autovacuum?: boolean;
  /** The statistics target of Postgres. A measurement uses production's; a small test needs more. */
  statistics?: number;
};

/**
 * Creates calls for clients of different sizes: the largest has as many as the second and third together. Every call has
 * metadata, one in ten a transcript. Returns the clients, largest first.
 */
export async function seedCalls(owner: Owner, { calls, clients, autovacuum = false, statistics = 1_000 }: Seeding) {
  const harmonic = Array.from({ length: clients }, (_, rank) => 1 / (rank + 1)).reduce((sum, part) => sum + part, 0);
  const crowds: Crowd[] = [];
  for (const table of tables) await owner.unsafe(`alter table ${table} set (autovacuum_enabled = ${autovacuum})`);
  for (let rank = 0; rank < clients; rank += 1) {
    crowds.push(await seedClient(owner, Math.max(1, Math.round(calls / (rank + 1) / harmonic))));
  }
  await owner.begin(async (tx) => {
    await tx.unsafe(`set local default_statistics_target = ${statistics}`);
    await tx.unsafe(`analyze ${tables.join(", ")}`);
  });
  await owner.unsafe("vacuum calls, call_pairs, call_words, holds");
  return crowds;
}

async function seedClient(owner: Owner, count: number): Promise<Crowd> {
  const clientId = newId("client");
  await owner`insert into clients (id, name) values (${clientId}, 'Crowd')`;
  const agentIds = Array.from({ length: 5 }, () => newId("agent"));
  await owner`insert into agents (client_id, id, name, status, version, provider_account_id)
    select ${clientId}, id, 'Agent', 'active', 1, 'pacc_platform' from unnest(${agentIds}::text[]) id`;
  const until = new Date();
  const since = new Date(until.getTime() - days * 86_400_000);
  await owner.unsafe(callsSql, [clientId, agentIds, count, since.toISOString(), days * 86_400_000 - 60_000]);
  await owner.unsafe(holdsSql, [clientId]);
  await owner.unsafe(pairsSql, [clientId]);
  await owner.unsafe(wordsSql, [clientId]);
  return { clientId, calls: count, agentId: agentIds[0]!, number: "+14155550042", since, until };
}

/** An id of the given millisecond: ten characters of time in our base 32, and sixteen unique ones. */
const idAt = (milliseconds: string, unique: string) => {
  const letter = (place: number) =>
    `substr('0123456789abcdefghjkmnpqrstvwxyz', (((${milliseconds}) >> ${5 * place}) & 31)::int + 1, 1)`;
  const time = [9, 8, 7, 6, 5, 4, 3, 2, 1, 0].map(letter).join(" || ");
  return `'call_' || ${time} || substr(md5(${unique}), 1, 16)`;
};

const callsSql = `
  with made as (
    select i, hashtext('a' || i) & 1023 as a, hashtext('b' || i) & 1023 as b, hashtext('c' || i) & 1023 as c,
           (extract(epoch from $4::text::timestamptz) * 1000)::bigint + (i::numeric * $5::text::numeric / $3::text::int)::bigint as ms
    from generate_series(1, $3::text::int) i
  ), judged as (
    select *,
      case when a < 820 then 'outbound' when a < 945 then 'inbound' else 'web' end as direction,
      case when b < 20 then 'failed' when $3::text::int - i < 10 then 'active' else 'ended' end as status,
      case when c < 563 then 'completed' when c < 768 then 'no_answer' when c < 890 then 'voicemail' when c < 950 then 'busy'
           when c < 970 then 'rejected' when c < 990 then 'invalid_number' when c < 1010 then 'failed' else 'cancelled' end as outcome
    from made
  )
  insert into calls (client_id, id, agent_id, agent_version, direction, medium, "to", "from", status, outcome, outcome_final,
    variables, metadata, max_duration_seconds, join_timeout_seconds, recording_enabled, provider_account_id, provider_call_id,
    duration_seconds, recording_status, transcript_status, created_at)
  select $1::text, ${idAt("ms", "$1::text || i")}, ($2::text[])[1 + (a * 7 + b) % 5], 1, direction,
    case when direction = 'web' then 'web' else 'sip' end,
    case direction when 'outbound' then '+1415555' || lpad((b * 9 % 10000)::text, 4, '0') when 'inbound' then '+14155550042' end,
    case direction when 'inbound' then '+1415555' || lpad((c * 9 % 10000)::text, 4, '0') when 'outbound' then '+14155550042' end,
    status, case status when 'ended' then outcome when 'failed' then 'failed' end, status <> 'active',
    '{}', jsonb_build_object('orderId', i::text, 'tier', case when a % 10 = 0 then 'gold' when a % 10 < 4 then 'silver' else 'bronze' end,
      'region', 'r' || b % 20),
    600, 30, true, 'pacc_platform', md5($1::text || 'p' || i),
    case when status = 'ended' then case when outcome in ('completed', 'voicemail') then 10 + (a * b) % 590 else 0 end end,
    case when outcome = 'completed' and status = 'ended' and b % 10 < 7 then 'ready' else 'none' end,
    'ready', to_timestamp(ms / 1000.0)
  from judged`;

/** As after the bill: every call has a hold. */
const holdsSql = `
  insert into holds (client_id, subject_id, price_id, amount_micros, captured_micros, status)
  select client_id, id, (select id from prices where client_id is null limit 1), 105000000, 6000000, 'settled'
  from calls where client_id = $1`;

const pairsSql = `
  insert into call_pairs (client_id, key, value, call_id)
  select c.client_id, p.key, p.value, c.id from calls c, jsonb_each_text(c.metadata) p where c.client_id = $1`;

/** Words of one call in ten: a few common words, some frequent ones, and rare ones. */
const wordsSql = `
  insert into call_words (client_id, word, call_id)
  select distinct c.client_id, w.word, c.id
  from (select client_id, id, i, hashtext('d' || i) & 8191 as h
        from (select client_id, id, metadata->>'orderId' as i from calls where client_id = $1) numbered) c,
    lateral (
      select 'appointment' as word
      union all select 'thursday' where c.h / 10 % 5 = 0
      union all select 'refund' where c.h / 10 % 50 = 0
      union all select 'w' || (hashtext(c.i || '/' || n) & 16383) from generate_series(1, 12) n
    ) w
  where c.h % 10 = 0`;
