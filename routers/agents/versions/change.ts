import { and, eq, sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { emit } from "../../../db/events.ts";
import { enqueue } from "../../../db/queue.ts";
import { agents, agentVersions } from "../../../db/schema/agents.ts";
import { inboundRoutes } from "../../../db/schema/telephony.ts";
import { ApiError, type ErrorDetail } from "../../core/errors.ts";
import type { ProviderAgent } from "../../ports/ultravox.ts";
import { givenFields, namesOurVoice } from "../config.ts";
import { dropUses, keepUses, type References, referencesOf, textArray } from "../references.ts";
import { AgentConfig } from "../schema.ts";
import { getAgent, lockAgent } from "../service.ts";
import { objectionsTo, requiredOf } from "../variables.ts";

/** What the outbounds of an agent do to its rows. */

const now = sql`clock_timestamp()` as unknown as Date; // drizzle takes an expression where its types ask for a value

/**
 * What no schema can say of a config, since it lies between its fields. `changed`: the fields that a change is about; the
 * others are as they were, and nobody is kept from a change by what was good when it was saved.
 */
export function checkConfig(config: AgentConfig, { tools }: Pick<References, "tools">, changed?: readonly string[]) {
  const ofChange = ({ path }: ErrorDetail) =>
    !changed || changed.includes("variables") || changed.includes(path.split(".")[0] ?? "");
  const details = [
    ...[...objectionsTo(config, tools), ...strictlyRead(config)].filter(ofChange),
    ...contradictionsIn(config),
  ];
  const [first] = details;
  if (first) throw new ApiError("input_invalid", `${first.path}: ${first.message}`, { details });
}

function contradictionsIn(config: AgentConfig): ErrorDetail[] {
  const details: ErrorDetail[] = [];
  if (config.voice !== null && config.voiceId !== null) {
    details.push({ path: "voice", message: "Give `voice` or `voiceId`, not both." });
  }
  if (namesOurVoice(config.voice)) {
    const message = "This is the id of a voice made here: give it as `voiceId`, if it is yours. `voice` takes a name.";
    details.push({ path: "voice", message });
  }
  if (config.voicemail.message !== null && config.voicemail.behaviour !== "leave_message") {
    details.push({ path: "voicemail.message", message: "Only where the behaviour is `leave_message`." });
  }
  return details;
}

/** A version of earlier days that is restored is read as strictly as one that is given. */
function strictlyRead(config: AgentConfig): ErrorDetail[] {
  return Object.entries(givenFields).flatMap(([name, field]) => {
    const { error } = field.safeParse(config[name as keyof typeof givenFields]);
    return (error?.issues ?? []).map(({ path, message }) => ({ path: [name, ...path].join("."), message }));
  });
}

/** The provider has this version: calls use it from now on. */
export async function goLive(tx: Tx, id: string, version: number, { providerAgentId, revisionId }: ProviderAgent) {
  const agent = await lockAgent(tx, id);
  if (agent.version > 0) await markVersion(tx, id, agent.version, { status: "retired" });
  const live = await markVersion(tx, id, version, { status: "live", providerRevisionId: revisionId });
  const metadata = live.metadata ?? agent.metadata;
  const set = { status: "active", statusReason: null, version, name: live.name, metadata, providerAgentId } as const;
  await change(tx, id, { ...set, comparedAt: now });
  await rewriteUses(tx, id, live.config);
}

/** From now on the agent is made of what this config names, and of nothing else. */
export async function rewriteUses(tx: Tx, id: string, stored: unknown) {
  const config = AgentConfig.parse(stored);
  await dropUses(tx, id);
  const found = await referencesOf(tx, config);
  await keepUses(tx, id, config, found);
  await keepRequired(tx, id, requiredOf(config, found.tools));
}

/** What calls that come in would need, and do not bring: its routes answer by that, so the provider is told of a change. */
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

export async function versionUnderWay(tx: Tx, agentId: string) {
  const [version] = await tx
    .select()
    .from(agentVersions)
    .where(and(eq(agentVersions.agentId, agentId), eq(agentVersions.status, "pending")));
  return version ?? null;
}

export async function pendingVersion(tx: Tx, agentId: string) {
  const version = await versionUnderWay(tx, agentId);
  if (!version) throw new Error(`Agent ${agentId} has no version under way.`);
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

export async function change(tx: Tx, id: string, set: Partial<typeof agents.$inferInsert>) {
  await tx
    .update(agents)
    .set({ ...set, updatedAt: now })
    .where(eq(agents.id, id));
}

export async function emitAgentEvent(tx: Tx, type: "agent.created" | "agent.updated", id: string) {
  const { name, status, version } = await getAgent(tx, id);
  await emit(tx, type, id, { id, name, status, version });
}
