import { asc, eq, sql } from "drizzle-orm";
import type { PgColumn } from "drizzle-orm/pg-core";
import type { Tx } from "../../db/client.ts";
import { agentUses } from "../../db/schema/agents.ts";
import { credentials } from "../../db/schema/credentials.ts";
import { knowledgeBases } from "../../db/schema/knowledge.ts";
import { tools } from "../../db/schema/tools.ts";
import { voices } from "../../db/schema/voices.ts";
import { ApiError, type ErrorCode } from "../core/errors.ts";
import { isUsable } from "../knowledge/transitions.ts";
import { Config, isTransfer, objectionToTarget } from "../tools/definition.ts";
import { credentialOf as shownBy } from "../tools/upstream.ts";
import type { AgentConfig } from "./config.ts";

type VoiceRow = typeof voices.$inferSelect;
type ToolRow = typeof tools.$inferSelect;
type KnowledgeRow = typeof knowledgeBases.$inferSelect;
type CredentialRow = typeof credentials.$inferSelect;

/** What a config names, in its order; null where there is no such thing. */
export type References = {
  voice: VoiceRow | null;
  knowledgeBases: (KnowledgeRow | null)[];
  tools: (ToolRow | null)[];
  /** By the provider's name: what the tools show at their doors. */
  credentials: Map<string, CredentialRow>;
};

/**
 * Reads what a config names: one query a kind. `lock` holds it until the end of the transaction, so that nothing of it is
 * deleted meanwhile. Whoever deletes such a thing locks its row first and looks into `agent_uses` after, in a statement of
 * its own: one of the two then sees the other. These locks come before the agent's own.
 */
export async function referencesOf(
  tx: Tx,
  { voiceId, knowledgeBaseIds, tools: used }: AgentConfig,
  { lock = false } = {},
): Promise<References> {
  const toolIds = used.map(({ toolId }) => toolId);
  const locked = <Q extends { for(strength: "share"): unknown }>(query: Q) =>
    lock ? (query.for("share") as Q) : query;
  const ofVoices = tx
    .select()
    .from(voices)
    .where(among(voices.id, voiceId ? [voiceId] : []));
  const foundVoices = voiceId ? await locked(ofVoices) : [];
  const ofBases = tx
    .select()
    .from(knowledgeBases)
    .where(among(knowledgeBases.id, knowledgeBaseIds))
    .orderBy(asc(knowledgeBases.id));
  const bases = knowledgeBaseIds.length > 0 ? await locked(ofBases) : [];
  const ofTools = tx.select().from(tools).where(among(tools.id, toolIds)).orderBy(asc(tools.id));
  const foundTools = toolIds.length > 0 ? await locked(ofTools) : [];
  const providers = foundTools.flatMap((tool) => credentialOf(tool) ?? []);
  const ofCredentials = tx.select().from(credentials).where(among(credentials.provider, providers));
  const foundCredentials = providers.length > 0 ? await locked(ofCredentials.orderBy(asc(credentials.provider))) : [];
  return {
    voice: foundVoices[0] ?? null,
    knowledgeBases: inOrder(knowledgeBaseIds, bases),
    tools: inOrder(toolIds, foundTools),
    credentials: new Map(foundCredentials.map((row) => [row.provider, row])),
  };
}

/** The tools that a config names, in its order: what a call needs to know of them. */
export async function toolsOf(tx: Tx, { tools: used }: Pick<AgentConfig, "tools">): Promise<(ToolRow | null)[]> {
  if (used.length === 0) return [];
  const ids = used.map(({ toolId }) => toolId);
  return inOrder(ids, await tx.select().from(tools).where(among(tools.id, ids)));
}

const among = (column: PgColumn, ids: readonly string[]) => sql`${column} = any(${textArray(ids)})`;
export const textArray = (texts: readonly string[]) =>
  sql`array(select json_array_elements_text(${JSON.stringify(texts)}::text::json))`;

/** The provider name of the credential that a tool shows at its door; null where it shows none. */
export const credentialOf = ({ config }: Pick<ToolRow, "config">) => shownBy(Config.parse(config).definition);

function inOrder<Row extends { id: string }>(ids: readonly string[], rows: Row[]): (Row | null)[] {
  const byId = new Map(rows.map((row) => [row.id, row]));
  return ids.map((id) => byId.get(id) ?? null);
}

const refuse = (code: ErrorCode, path: string, message: string) =>
  new ApiError(code, `${path}: ${message}`, { details: [{ path, message }] });

/**
 * Throws unless all that a config names is there, can be used, and stands in this account of the provider. What `before`
 * names too and was deleted since does not stand in the way of a change of something else: the agent goes on without it at
 * the provider.
 */
export function checkReferences(
  config: AgentConfig,
  found: References,
  accountId: string | null,
  before: AgentConfig | null = null,
) {
  const { voice } = found;
  const isLeft = (row: { status: string } | null | undefined, kept: boolean | undefined) =>
    kept === true && (!row || row.status === "deleted");
  if (config.voiceId && !isLeft(voice, config.voiceId === before?.voiceId)) {
    const [path, id] = ["voiceId", config.voiceId];
    if (!voice || voice.status === "deleted") throw refuse("voice_not_found", path, `There is no voice ${id}.`);
    if (voice.status !== "active" || !voice.providerVoiceId)
      throw refuse("voice_not_active", path, `Voice ${id} is ${voice.status}; wait until it is active.`);
    sameAccount(path, `Voice ${id}`, voice, accountId);
  }
  for (const [index, id] of config.knowledgeBaseIds.entries()) {
    const [path, base] = [`knowledgeBaseIds.${index}`, found.knowledgeBases[index]];
    if (isLeft(base, before?.knowledgeBaseIds.includes(id))) continue;
    if (!base || base.status === "deleted")
      throw refuse("knowledge_base_not_found", path, `There is no knowledge base ${id}.`);
    if (!isUsable(base))
      throw refuse("knowledge_base_not_ready", path, `Knowledge base ${id} is ${base.status}: no file of it is ready.`);
    sameAccount(path, `Knowledge base ${id}`, base, accountId);
  }
  for (const [index, { toolId, parameterOverrides }] of config.tools.entries()) {
    if (
      isLeft(
        found.tools[index],
        before?.tools.some((kept) => kept.toolId === toolId),
      )
    )
      continue;
    checkTool(`tools.${index}.toolId`, toolId, found, index, accountId);
    checkTarget(`tools.${index}.parameterOverrides.target`, found.tools[index], parameterOverrides.target);
  }
  for (const { path, name } of clashes(config, found)) {
    throw refuse("input_invalid", path, `Two tools of this agent would be called ${name}.`);
  }
}

function checkTool(path: string, id: string, found: References, index: number, accountId: string | null) {
  const tool = found.tools[index];
  if (!tool || tool.status === "deleted") throw refuse("tool_not_found", path, `There is no tool ${id}.`);
  if (tool.status !== "active") throw refuse("tool_not_active", path, `Tool ${id} is ${tool.status}.`);
  const credential = credentialOf(tool);
  if (credential && !found.credentials.has(credential)) {
    throw refuse("credential_not_found", path, `Tool ${id} needs the credential ${credential}, which is not there.`);
  }
  if (tool.kind !== "builtin") sameAccount(path, `Tool ${id}`, tool, accountId);
}

/** An agent may send a tool's transfer elsewhere, and no further than the tool itself could. */
function checkTarget(path: string, tool: ToolRow | null | undefined, target: unknown) {
  if (!tool || target === undefined) return;
  const { definition } = Config.parse(tool.config);
  if (definition.type !== "builtin" || !isTransfer(definition.name)) return;
  const objection = typeof target === "string" ? objectionToTarget(target) : "Write it as text.";
  if (objection) throw refuse("input_invalid", path, objection);
}

function sameAccount(path: string, what: string, row: { providerAccountId: string }, accountId: string | null) {
  if (accountId === null || row.providerAccountId === accountId) return;
  const message = `${what} was made in another account at the voice provider than this agent. Make it anew.`;
  throw refuse("input_invalid", path, message);
}

/** What the model calls the tools that a config brings by itself, by the field that does. */
export const ownTools = {
  hangUp: "hangUp",
  /** Beside `hangUp`, where the agent may end any call: which of the two was used tells a machine from a goodbye. */
  hangUpOnVoicemail: "hangUpOnVoicemail",
  voicemail: "leaveVoicemail",
  knowledgeBase: (index: number, count: number) => (count === 1 ? "queryCorpus" : `queryCorpus_${index + 1}`),
  transfer: (name: string) => `transfer_to_${name}`,
};

type Voicemail = { behaviour?: string | undefined };

/** The tool by whose use an agent says that a machine has answered; null: it is told nothing about machines. */
export function voicemailTool(config: {
  voicemail?: Voicemail | null | undefined;
  hangUpEnabled?: boolean | null | undefined;
}) {
  const behaviour = config.voicemail?.behaviour;
  if (behaviour === "leave_message") return ownTools.voicemail;
  if (behaviour !== "hang_up") return null;
  return config.hangUpEnabled ? ownTools.hangUpOnVoicemail : ownTools.hangUp;
}

function* clashes(config: AgentConfig, found: References) {
  const seen = new Set<string>();
  const { hangUpEnabled, knowledgeBaseIds: bases, transferTargets } = config;
  if (hangUpEnabled) seen.add(ownTools.hangUp);
  seen.add(voicemailTool(config) ?? "");
  for (const index of bases.keys()) seen.add(ownTools.knowledgeBase(index, bases.length));
  for (const { name } of transferTargets) seen.add(ownTools.transfer(name));
  for (const [index, tool] of found.tools.entries()) {
    if (tool?.status === "deleted") continue; // its name may be another's by now
    if (tool && seen.has(tool.name)) yield { path: `tools.${index}.toolId`, name: tool.name };
    if (tool) seen.add(tool.name);
  }
}

/** Writes down what an agent is made of: whoever wants to delete one of those things asks there first. */
export async function keepUses(tx: Tx, agentId: string, config: AgentConfig, found: References) {
  const uses = [
    ...(config.voiceId ? [{ kind: "voice" as const, targetId: config.voiceId }] : []),
    ...config.knowledgeBaseIds.map((targetId) => ({ kind: "knowledge_base" as const, targetId })),
    ...config.tools.map(({ toolId }) => ({ kind: "tool" as const, targetId: toolId })),
    ...[...found.credentials.values()].map(({ id }) => ({ kind: "credential" as const, targetId: id })),
  ];
  if (uses.length === 0) return;
  await tx
    .insert(agentUses)
    .values(uses.map((use) => ({ agentId, ...use })))
    .onConflictDoNothing();
}

export async function dropUses(tx: Tx, agentId: string) {
  await tx.delete(agentUses).where(eq(agentUses.agentId, agentId));
}
