import { and, eq, sql } from "drizzle-orm";
import type { PgUpdateSetSource } from "drizzle-orm/pg-core";
import { type Tx, withCommit } from "../../../db/client.ts";
import { emit } from "../../../db/events.ts";
import { prepared } from "../../../db/prepared.ts";
import { enqueue } from "../../../db/queue.ts";
import { agents, agentVersions } from "../../../db/schema/agents.ts";
import { statement } from "../../../db/statement.ts";
import { dbNow } from "../../../db/time.ts";
import type { ErrorDetail } from "../../core/errors.ts";
import { refuseInvalid } from "../../core/refuse-invalid.ts";
import { validationDetails } from "../../core/validation-details.ts";
import type { ProviderAgent } from "../../ports/ultravox.ts";
import { inputFields, namesOurVoice } from "../config.ts";
import { dropUses, keepUses, type References, referencesOf } from "../references.ts";
import { type Agent, AgentConfig } from "../schema.ts";
import { type AgentRow, lockAgent, toAgent } from "../service.ts";
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

/** An agent that is locked, and its version that the provider does not have yet. */
export type WithPending = { agent: AgentRow; pending: typeof agentVersions.$inferSelect | null };

/** Locks an agent and reads its pending version, in one round trip. */
export async function lockWithPending(tx: Tx, id: string): Promise<WithPending> {
  const [agent, pending] = await Promise.all([lockAgent(tx, id), findPendingVersion(tx, id)]);
  return { agent, pending };
}

/**
 * Makes the pending version live after the provider stored it: calls use it from now on. Its statements are sent together,
 * since none depends on the result of another. Returns the agent.
 */
export async function goLive(
  tx: Tx,
  { agent, pending }: WithPending,
  { providerAgentId, revisionId }: ProviderAgent,
  event: "agent.created" | "agent.updated",
): Promise<Agent> {
  if (!pending) throw new Error(`Agent ${agent.id} has no pending version.`);
  const { id } = agent;
  const { name, version, metadata } = pending;
  const config = AgentConfig.parse(pending.config);
  const live = { name, status: "active", statusReason: null, version, metadata: metadata ?? agent.metadata } as const;
  const [changed] = await Promise.all([
    makeLive(tx, { ...live, id, providerAgentId, metadata: JSON.stringify(live.metadata) }),
    agent.version > 0 && markVersion(tx, id, agent.version, { status: "retired" }),
    markVersion(tx, id, version, { status: "live", providerRevisionId: revisionId }),
    rewriteUses(tx, id, config),
  ]);
  withCommit(tx, () => emit(tx, event, id, { id, name, status: live.status, version }));
  return toAgent({ agent: changed[0]!, config });
}

const given = (name: string) => sql`${sql.placeholder(name)}`;
const makeLive = prepared((db) =>
  db
    .update(agents)
    .set({
      name: given("name"),
      status: given("status"),
      statusReason: null,
      version: given("version"),
      metadata: sql`${sql.placeholder("metadata")}::text::jsonb`,
      providerAgentId: given("providerAgentId"),
      comparedAt: dbNow(),
      updatedAt: dbNow(),
    })
    .where(eq(agents.id, sql.placeholder("id")))
    .returning(),
);

/** Records exactly what this config refers to as what the agent uses. */
export async function rewriteUses(tx: Tx, id: string, stored: unknown) {
  const config = AgentConfig.parse(stored);
  const [, found] = await Promise.all([dropUses(tx, id), referencesOf(tx, config)]);
  await Promise.all([keepUses(tx, id, config, found), keepRequired(tx, id, requiredOf(config, found.tools))]);
}

const updateRequired = statement<{ provider_account_id: string; is_routed: boolean }>(`
  with required as (select array(select json_array_elements_text($2::text::json)) as variables)
  update agents a set required_variables = required.variables from required
  where a.id = $1 and a.required_variables is distinct from required.variables
  returning a.provider_account_id, exists (select from inbound_routes r where r.agent_id = a.id) as is_routed`);

/** Stores the variables that inbound calls lack. Routes answer by them, so a change is synchronized with the provider. */
export async function keepRequired(tx: Tx, id: string, requiredVariables: string[]) {
  const [changed] = await updateRequired(tx, [id, JSON.stringify(requiredVariables)]);
  if (!changed?.is_routed) return;
  const accountId = changed.provider_account_id;
  await enqueue(tx, "telephony.sync", { accountId }, { key: accountId, delaySeconds: 1 });
}

const readPending = prepared((db) =>
  db
    .select()
    .from(agentVersions)
    .where(and(eq(agentVersions.agentId, sql.placeholder("agentId")), eq(agentVersions.status, "pending"))),
);

export async function findPendingVersion(tx: Tx, agentId: string) {
  const [version] = await readPending(tx, { agentId });
  return version ?? null;
}

export async function pendingVersion(tx: Tx, agentId: string) {
  const version = await findPendingVersion(tx, agentId);
  if (!version) throw new Error(`Agent ${agentId} has no pending version.`);
  return version;
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
