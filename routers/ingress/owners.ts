import { and, eq, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { agents } from "../../db/schema/agents.ts";
import type { CallState } from "../calls/lifecycle/apply-provider-event.ts";

/**
 * What a message says about its call. Our own id comes first: a message may arrive before we know the provider's id. A
 * carrier's message has no more than our id, since phone numbers name no call.
 */
export type CallQuery = {
  callId: string | null;
  /** At the voice provider. */
  providerCallId: string | null;
  /** The call must belong to this account at the voice provider, or, if a client's own key signed the message, to the client. */
  of: { accountId: string } | { clientId: string };
};

export type OwnedCall = CallState & { clientId: string; callId: string };

type Row = {
  n: number;
  client_id: string;
  id: string;
  status: CallState["status"];
  provider_call_id: string | null;
  billed_seconds: number | null;
  sip_billed_seconds: number | null;
};

/** Finds the call of each query; null: there is none. Each lookup uses an index: `offset 0` prevents any other join. */
export async function findCalls(tx: Tx, queries: readonly CallQuery[]): Promise<(OwnedCall | null)[]> {
  if (queries.length === 0) return [];
  const given = queries.map(({ callId, providerCallId, of }, n) => ({ n, callId, providerCallId, ...of }));
  const rows = await tx.execute<Row>(sql`
    with given as materialized (
      select * from json_to_recordset(${JSON.stringify(given)}::text::json) as g(
        n int, "callId" text, "providerCallId" text, "accountId" text, "clientId" text)
    )
    select g.n, c.* from given g cross join lateral (
      select client_id, id, status, provider_call_id, billed_seconds, sip_billed_seconds from calls
      where id = g."callId" and (provider_account_id = g."accountId" or client_id = g."clientId") offset 0) c
    union all
    select g.n, c.* from given g cross join lateral (
      select client_id, id, status, provider_call_id, billed_seconds, sip_billed_seconds from calls
      where provider_account_id = g."accountId" and provider_call_id = g."providerCallId" offset 0) c`);
  const found = new Map<number, OwnedCall>();
  for (const row of rows) {
    const isNamed = row.id === queries[row.n]!.callId;
    if (isNamed || !found.has(row.n)) found.set(row.n, toOwnedCall(row));
  }
  return queries.map((_, n) => found.get(n) ?? null);
}

const toOwnedCall = (row: Row): OwnedCall => ({
  clientId: row.client_id,
  callId: row.id,
  status: row.status,
  providerCallId: row.provider_call_id,
  billedSeconds: row.billed_seconds,
  sipBilledSeconds: row.sip_billed_seconds,
});

/** Finds the agent of an inbound call, within that account. */
export async function agentOfCall(
  tx: Tx,
  accountId: string,
  { callId, providerAgentId }: { callId: string | null; providerAgentId: string | null },
): Promise<{ clientId: string; agentId: string } | null> {
  // A call with an id in our format was placed by us, or by another installation that shares the account.
  if (callId !== null || providerAgentId === null) return null;
  const [found] = await tx
    .select({ clientId: agents.clientId, agentId: agents.id })
    .from(agents)
    .where(and(eq(agents.providerAccountId, accountId), eq(agents.providerAgentId, providerAgentId)));
  return found ?? null;
}
