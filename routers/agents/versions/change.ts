import { and, eq, sql } from "drizzle-orm";
import type { PgUpdateSetSource } from "drizzle-orm/pg-core";
import type { Tx } from "../../../db/client.ts";
import { emit } from "../../../db/events.ts";
import { enqueue } from "../../../db/queue.ts";
import { agents, agentVersions } from "../../../db/schema/agents.ts";
import { inboundRoutes } from "../../../db/schema/telephony.ts";
import { dbNow } from "../../../db/time.ts";
import type { ErrorDetail } from "../../core/errors.ts";
import { refuseInvalid } from "../../core/refuse-invalid.ts";
import { validationDetails } from "../../core/validation-details.ts";
import type { ProviderAgent } from "../../ports/ultravox.ts";
import { inputFields, namesOurVoice } from "../config.ts";
import { dropUses, keepUses, type References, referencesOf, textArray } from "../references.ts";
import { AgentConfig } from "../schema.ts";
import { getAgent, lockAgent } from "../service.ts";
import { objectionsTo, requiredOf } from "../variables.ts";

/** How the provider commands of an agent change its rows. */

/**
 * Checks that no schema can make, since they involve several fields. `changed`: the changed fields. The others are not
 * checked again: a value that was valid when it was saved does not block a change of another field.
 */
export function checkConfig(config: AgentConfig, { tools }: Pick<References, "tools">, changed?: readonly string[]) {
  const isOfChange = ({ path }: ErrorDetail) =>
    !changed || changed.includes("variables") || changed.includes(path.split(".")[0] ?? "");
  const details = [
    ...[...objectionsTo(config, tools), ...strictErrors(config)].filter(isOfChange),
    ...contradictionsIn(config),
  ];
  refuseInvalid(details);
}

function contradictionsIn(config: AgentConfig): ErrorDetail[] {
  const details: ErrorDetail[] = [];
  if (config.voice !== null && config.voiceId !== null) {
    details.push({ path: "voice", message: "Give `voice` or `voiceId`, not both." });
  }
  if (namesOurVoice(config.voice)) {
    const message = "This is the id of a voice. If it is yours, give it as `voiceId`; `voice` takes a name.";
    details.push({ path: "voice", message });
  }
  if (config.voicemail.message !== null && config.voicemail.behaviour !== "leave_message") {
    details.push({ path: "voicemail.message", message: "Give a message only if the behaviour is `leave_message`." });
  }
  return details;
}

/** A restored version is checked as strictly as new input. */
function strictErrors(config: AgentConfig): ErrorDetail[] {
  return Object.entries(inputFields).flatMap(([name, field]) => {
    const { error } = field.safeParse(config[name as keyof typeof inputFields]);
    return validationDetails(error?.issues ?? [], [name]);
  });
}

/** Makes a version live after the provider stored it: calls use it from now on. */
export async function goLive(tx: Tx, id: string, version: number, { providerAgentId, revisionId }: ProviderAgent) {
  const agent = await lockAgent(tx, id);
  if (agent.version > 0) await markVersion(tx, id, agent.version, { status: "retired" });
  const live = await markVersion(tx, id, version, { status: "live", providerRevisionId: revisionId });
  const metadata = live.metadata ?? agent.metadata;
  const set = { status: "active", statusReason: null, version, name: live.name, metadata, providerAgentId } as const;
  await change(tx, id, { ...set, comparedAt: dbNow() });
  await rewriteUses(tx, id, live.config);
}

/** Records exactly what this config refers to as what the agent uses. */
export async function rewriteUses(tx: Tx, id: string, stored: unknown) {
  const config = AgentConfig.parse(stored);
  await dropUses(tx, id);
  const found = await referencesOf(tx, config);
  await keepUses(tx, id, config, found);
  await keepRequired(tx, id, requiredOf(config, found.tools));
}

/** Stores the variables that inbound calls lack. Routes answer by them, so a change is synchronized with the provider. */
export async function keepRequired(tx: Tx, id: string, requiredVariables: string[]) {
  const [changed] = await tx
    .update(agents)
    .set({ requiredVariables })
    .where(and(eq(agents.id, id), sql`${agents.requiredVariables} is distinct from ${textArray(requiredVariables)}`))
    .returning({ accountId: agents.providerAccountId });
  if (!changed) return;
  const [route] = await tx
    .select({ id: inboundRoutes.id })
    .from(inboundRoutes)
    .where(eq(inboundRoutes.agentId, id))
    .limit(1);
  const { accountId } = changed;
  if (route) await enqueue(tx, "telephony.sync", { accountId }, { key: accountId, delaySeconds: 1 });
}

export async function findPendingVersion(tx: Tx, agentId: string) {
  const [version] = await tx
    .select()
    .from(agentVersions)
    .where(and(eq(agentVersions.agentId, agentId), eq(agentVersions.status, "pending")));
  return version ?? null;
}

export async function pendingVersion(tx: Tx, agentId: string) {
  const version = await findPendingVersion(tx, agentId);
  if (!version) throw new Error(`Agent ${agentId} has no pending version.`);
  return version;
}

export async function newestVersion(tx: Tx, agentId: string): Promise<number> {
  const [row] = await tx
    .select({ newest: sql<number>`max(${agentVersions.version})` })
    .from(agentVersions)
    .where(eq(agentVersions.agentId, agentId));
  return Number(row?.newest ?? 0);
}

export async function markVersion(
  tx: Tx,
  agentId: string,
  version: number,
  set: Partial<typeof agentVersions.$inferInsert>,
) {
  const [row] = await tx
    .update(agentVersions)
    .set(set)
    .where(and(eq(agentVersions.agentId, agentId), eq(agentVersions.version, version)))
    .returning();
  return row!;
}

export async function change(tx: Tx, id: string, set: PgUpdateSetSource<typeof agents>) {
  await tx
    .update(agents)
    .set({ ...set, updatedAt: dbNow() })
    .where(eq(agents.id, id));
}

export async function emitAgentEvent(tx: Tx, type: "agent.created" | "agent.updated", id: string) {
  const { name, status, version } = await getAgent(tx, id);
  await emit(tx, type, id, { id, name, status, version });
}
