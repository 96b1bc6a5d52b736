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
import { credentialOf as credentialOfDefinition } from "../tools/upstream.ts";
import type { AgentConfig } from "./config.ts";

type VoiceRow = typeof voices.$inferSelect;
type ToolRow = typeof tools.$inferSelect;
type KnowledgeRow = typeof knowledgeBases.$inferSelect;
type CredentialRow = typeof credentials.$inferSelect;

/** The rows that a config refers to, in its order; null where a row does not exist. */
export type References = {
  voice: VoiceRow | null;
  knowledgeBases: (KnowledgeRow | null)[];
  tools: (ToolRow | null)[];
  /** The credentials that the tools send, by provider name. */
  credentials: Map<string, CredentialRow>;
};

/**
 * Reads the rows that a config refers to, with one query per kind. `lock` holds them until the end of the transaction, so
 * that none is deleted meanwhile. A deletion locks its row first and reads `agent_uses` in a later statement, so one of
 * the two sees the other. Take these locks before the agent's own.
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
  const ofBases = tx
    .select()
    .from(knowledgeBases)
    .where(among(knowledgeBases.id, knowledgeBaseIds))
    .orderBy(asc(knowledgeBases.id));
  const ofTools = tx.select().from(tools).where(among(tools.id, toolIds)).orderBy(asc(tools.id));
  const [foundVoices, bases, foundTools] = await Promise.all([
    voiceId ? locked(ofVoices) : [],
    knowledgeBaseIds.length > 0 ? locked(ofBases) : [],
    toolIds.length > 0 ? locked(ofTools) : [],
  ]);
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

/** The tools that a config refers to, in its order. */
export async function toolsOf(tx: Tx, { tools: used }: Pick<AgentConfig, "tools">): Promise<(ToolRow | null)[]> {
  if (used.length === 0) return [];
  const ids = used.map(({ toolId }) => toolId);
  return inOrder(ids, await tx.select().from(tools).where(among(tools.id, ids)));
}

const among = (column: PgColumn, ids: readonly string[]) => sql`${column} = any(${textArray(ids)})`;
export const textArray = (texts: readonly string[]) =>
  sql`array(select json_array_elements_text(${JSON.stringify(texts)}::text::json))`;

/** The provider name of the credential that a tool sends; null if it sends none. */
export const credentialOf = ({ config }: Pick<ToolRow, "config">) =>
  credentialOfDefinition(Config.parse(config).definition);

function inOrder<Row extends { id: string }>(ids: readonly string[], rows: Row[]): (Row | null)[] {
  const byId = new Map(rows.map((row) => [row.id, row]));
  return ids.map((id) => byId.get(id) ?? null);
}

const refuse = (code: ErrorCode, path: string, message: string) =>
  new ApiError(code, `${path}: ${message}`, { details: [{ path, message }] });

/**
 * Throws unless everything that a config refers to exists, can be used, and belongs to this account of the provider. A
 * deleted row that `before` refers to as well does not block a change of another field: the provider's agent works
 * without it.
 */
export function checkReferences(
  config: AgentConfig,
  found: References,
  accountId: string | null,
  before: AgentConfig | null = null,
) {
  const { voice } = found;
  const isKeptDeleted = (row: { status: string } | null | undefined, kept: boolean | undefined) =>
    kept === true && (!row || row.status === "deleted");
  if (config.voiceId && !isKeptDeleted(voice, config.voiceId === before?.voiceId)) {
    const [path, id] = ["voiceId", config.voiceId];
    if (!voice || voice.status === "deleted") throw refuse("voice_not_found", path, `There is no voice ${id}.`);
    if (voice.status !== "active" || !voice.providerVoiceId)
      throw refuse("voice_not_active", path, `Voice ${id} is ${voice.status}. Wait until it is active.`);
    sameAccount(path, `Voice ${id}`, voice, accountId);
  }
  for (const [index, id] of config.knowledgeBaseIds.entries()) {
    const [path, base] = [`knowledgeBaseIds.${index}`, found.knowledgeBases[index]];
    if (isKeptDeleted(base, before?.knowledgeBaseIds.includes(id))) continue;
    if (!base || base.status === "deleted")
      throw refuse("knowledge_base_not_found", path, `There is no knowledge base ${id}.`);
    if (!isUsable(base))
      throw refuse(
        "knowledge_base_not_ready",
        path,
        `Knowledge base ${id} is ${base.status}. Wait until one of its files is ready.`,
      );
    sameAccount(path, `Knowledge base ${id}`, base, accountId);
  }
  for (const [index, { toolId, parameterOverrides }] of config.tools.entries()) {
    if (
      isKeptDeleted(
        found.tools[index],
        before?.tools.some((kept) => kept.toolId === toolId),
      )
    )
      continue;
    checkTool(`tools.${index}.toolId`, toolId, found, index, accountId);
    checkTarget(`tools.${index}.parameterOverrides.target`, found.tools[index], parameterOverrides.target);
  }
  for (const { path, name } of clashes(config, found)) {
    throw refuse("input_invalid", path, `Two tools of this agent would have the name ${name}. Rename or remove one.`);
  }
}

function checkTool(path: string, id: string, found: References, index: number, accountId: string | null) {
  const tool = found.tools[index];
  if (!tool || tool.status === "deleted") throw refuse("tool_not_found", path, `There is no tool ${id}.`);
  if (tool.status !== "active")
    throw refuse("tool_not_active", path, `Tool ${id} is ${tool.status}. Use an active tool.`);
  const credential = credentialOf(tool);
  if (credential && !found.credentials.has(credential)) {
    throw refuse(
      "credential_not_found",
      path,
      `Tool ${id} needs the credential ${credential}, which does not exist. Store it first.`,
    );
  }
  if (tool.kind !== "builtin") sameAccount(path, `Tool ${id}`, tool, accountId);
}

/** An agent may override the target of a transfer, but only with a target that the tool itself would accept. */
function checkTarget(path: string, tool: ToolRow | null | undefined, target: unknown) {
  if (!tool || target === undefined) return;
  const { definition } = Config.parse(tool.config);
  if (definition.type !== "builtin" || !isTransfer(definition.name)) return;
  const objection = typeof target === "string" ? objectionToTarget(target) : "Give the target as a string.";
  if (objection) throw refuse("input_invalid", path, objection);
}

function sameAccount(path: string, what: string, row: { providerAccountId: string }, accountId: string | null) {
  if (accountId === null || row.providerAccountId === accountId) return;
  const message = `${what} belongs to another account at the voice provider than this agent. Create it again.`;
  throw refuse("input_invalid", path, message);
}

/** The names, for the model, of the tools that fields of a config add. */
export const ownTools = {
  hangUp: "hangUp",
  /** Beside `hangUp`, if the agent may end any call: the tool used then separates a machine from a goodbye. */
  hangUpOnVoicemail: "hangUpOnVoicemail",
  voicemail: "leaveVoicemail",
  knowledgeBase: (index: number, count: number) => (count === 1 ? "queryCorpus" : `queryCorpus_${index + 1}`),
  transfer: (name: string) => `transfer_to_${name}`,
};

type Voicemail = { behaviour?: string | undefined };

/** The tool that an agent uses when a machine has answered; null if its prompt does not mention machines. */
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
  const taken = new Set<string>();
  const { hangUpEnabled, knowledgeBaseIds: bases, transferTargets } = config;
  if (hangUpEnabled) taken.add(ownTools.hangUp);
  taken.add(voicemailTool(config) ?? "");
  for (const index of bases.keys()) taken.add(ownTools.knowledgeBase(index, bases.length));
  for (const { name } of transferTargets) taken.add(ownTools.transfer(name));
  for (const [index, tool] of found.tools.entries()) {
    if (tool?.status === "deleted") continue; // another tool may have its name now
    if (tool && taken.has(tool.name)) yield { path: `tools.${index}.toolId`, name: tool.name };
    if (tool) taken.add(tool.name);
  }
}

/** Records what an agent uses. A deletion of one of those resources reads it first. */
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
