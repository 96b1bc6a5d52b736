import { and, desc, eq, isNull, sql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/postgres-js";
import postgres from "postgres";
import { newId } from "../../../db/ids.ts";
import { agents, agentVersions } from "../../../db/schema/agents.ts";
import { holds } from "../../../db/schema/billing.ts";
import { calls } from "../../../db/schema/calls.ts";
import { webhookEndpoints } from "../../../db/schema/events.ts";

type NewAgent = { name: string; metadata?: Record<string, string> };
type NewCall = { agentId: string; metadata?: Record<string, string> };

/** The documented way: drizzle's transaction for each request, which sets the client for row level security. */
export function tables(url: string, clientId: string) {
  const client = postgres(url, { max: 10, onnotice: () => {} });
  const db = drizzle(client, { casing: "snake_case" });
  type Tx = Parameters<Parameters<typeof db.transaction>[0]>[0];
  const asClient = <T>(work: (tx: Tx) => Promise<T>) =>
    db.transaction(async (tx) => {
      await tx.execute(sql`select set_config('app.client_id', ${clientId}, true)`);
      return work(tx);
    });
  const shownAgents = (tx: Tx) =>
    tx
      .select({ agent: agents, config: agentVersions.config })
      .from(agents)
      .innerJoin(
        agentVersions,
        and(
          eq(agentVersions.clientId, agents.clientId),
          eq(agentVersions.agentId, agents.id),
          eq(agentVersions.version, agents.version),
        ),
      );
  const asAgent = ({ agent, config }: Awaited<ReturnType<typeof shownAgents>>[number]) => {
    const { id, name, status, statusReason, version, metadata, createdAt, updatedAt } = agent;
    return { id, name, ...(config as object), metadata, status, statusReason, version, createdAt, updatedAt };
  };

  const callsWithHold = (tx: Parameters<typeof shownAgents>[0]) =>
    tx
      .select({ call: calls, hold: { amountMicros: holds.amountMicros } })
      .from(calls)
      .leftJoin(holds, and(eq(holds.clientId, calls.clientId), eq(holds.subjectId, calls.id)));
  const asHeldCall = ({ call, hold }: Awaited<ReturnType<typeof callsWithHold>>[number]) => {
    return { ...asCall(call), heldMicros: hold?.amountMicros ?? null };
  };

  return {
    close: () => client.end({ timeout: 1 }),
    agent: (id: string) =>
      asClient(async (tx) => {
        const [found] = await shownAgents(tx).where(eq(agents.id, id));
        return found ? asAgent(found) : null;
      }),
    agents: (limit: number) =>
      asClient(async (tx) => (await shownAgents(tx).orderBy(desc(agents.id)).limit(limit)).map(asAgent)),
    webhook: (id: string) =>
      asClient(async (tx) => {
        const isWanted = and(eq(webhookEndpoints.id, id), isNull(webhookEndpoints.deletedAt));
        const [found] = await tx.select().from(webhookEndpoints).where(isWanted);
        return found ? asWebhook(found) : null;
      }),
    call: (id: string) =>
      asClient(async (tx) => {
        const [found] = await callsWithHold(tx).where(eq(calls.id, id));
        return found ? asHeldCall(found) : null;
      }),
    calls: (limit: number) =>
      asClient(async (tx) => (await callsWithHold(tx).orderBy(desc(calls.id)).limit(limit)).map(asHeldCall)),
    createAgent: ({ name, metadata = {}, ...config }: NewAgent) =>
      asClient(async (tx) => {
        const id = newId("agent");
        const row = {
          clientId,
          id,
          name,
          metadata,
          status: "active" as const,
          version: 1,
          providerAccountId: "pacc_platform",
        };
        const [agent] = await tx.insert(agents).values(row).returning();
        const version = {
          clientId,
          agentId: id,
          version: 1,
          name,
          config,
          status: "live" as const,
          createdBy: "bench",
        };
        await tx.insert(agentVersions).values(version);
        return asAgent({ agent: agent!, config });
      }),
    createCall: ({ agentId, metadata = {} }: NewCall) =>
      asClient(async (tx) => {
        const id = newId("call");
        const [made] = await tx
          .insert(calls)
          .values({
            ...{ clientId, id, agentId, agentVersion: 1, direction: "web", medium: "web", status: "queued" },
            ...{ variables: {}, metadata, maxDurationSeconds: 600, joinTimeoutSeconds: 30, recordingEnabled: true },
            ...{ joinUrl: `wss://provider.example/${id}`, providerAccountId: "pacc_platform", providerCallId: id },
          })
          .returning();
        return asCall(made!);
      }),
  };
}

function asWebhook(row: typeof webhookEndpoints.$inferSelect) {
  const {
    clientId: _,
    secret: __,
    previousSecrets: ___,
    headers: ____,
    deletedAt: _____,
    rateDueAt: ______,
    ...shown
  } = row;
  return shown;
}

function asCall({ clientId: _, medium, finalState: __, overrides: ___, ...row }: typeof calls.$inferSelect) {
  const { providerAccountId, providerCallId, billingRevision, checkAt, checks, hangUpWhenJoined, ...shown } = row;
  return { ...shown, carrier: medium };
}
