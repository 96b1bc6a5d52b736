import type { Tx } from "../../db/client.ts";
import { agentVersions } from "../../db/schema/agents.ts";
import { ApiError } from "../core/errors.ts";
import { canonical } from "../core/pagination.ts";
import type { ProviderCommand } from "../core/provider-command.ts";
import type { Providers } from "../ports/index.ts";
import type { Deadline } from "../ports/provider-error.ts";
import type { ProviderAgent } from "../ports/ultravox.ts";
import { checkReferences, keepUses, referencesOf } from "./references.ts";
import { type Agent, AgentConfig, type AgentVersionId, type UpdateAgent } from "./schema.ts";
import {
  type AgentRow,
  enabledRoutes,
  getAgent,
  loadAgent,
  lockAgent,
  onceLive,
  refuseBusy,
  versionOf,
} from "./service.ts";
import { lookForSent, openTemplate, type Sent, standing, templateOf, templateWithoutDeleted } from "./template.ts";
import { needsVariables, requiredOf } from "./variables.ts";
import {
  change,
  checkConfig,
  emitAgentEvent,
  goLive,
  markVersion,
  newestVersion,
  pendingVersion,
  rewriteUses,
  versionUnderWay,
} from "./versions/change.ts";

/** null: nothing of it concerns the provider, and it is not asked. */
type Revised = Sent | null;
type Before = { agent: AgentRow; config: AgentConfig };
type Wanted = { name: string; config: AgentConfig; metadata?: Record<string, string> | undefined };

async function send({ ultravox, vault }: Providers, accountId: string, asked: Revised, deadline: Deadline) {
  if (!asked) return null;
  const template = await openTemplate(vault, asked.template);
  return ultravox.updateAgent(accountId, asked.providerAgentId, template, deadline);
}

/** What every outbound that makes a new version of an agent has in common. */
const revising = {
  status: 200,
  busyCode: "agent_busy",

  execute: send,

  async onAccepted(tx, subjectId, got) {
    if (!got) return;
    const { version } = await pendingVersion(tx, subjectId);
    await goLive(tx, subjectId, version, got);
    await emitAgentEvent(tx, "agent.updated", subjectId);
  },

  async onFailed(tx, subjectId) {
    const pending = await versionUnderWay(tx, subjectId);
    if (!pending) return;
    await markVersion(tx, subjectId, pending.version, { status: "failed" });
    const { config } = await loadAgent(tx, subjectId);
    await rewriteUses(tx, subjectId, config);
  },

  onUnknown: async () => {}, // the version stays pending, and the agent busy, until the safety job knows
  read: getAgent,

  async rebuildRequest(tx, subjectId) {
    const pending = await versionUnderWay(tx, subjectId);
    if (!pending) return null;
    const { providerAgentId } = await lockAgent(tx, subjectId);
    const template = await templateWithoutDeleted(tx, AgentConfig.parse(pending.config));
    return { providerAgentId: providerAgentId ?? "", template, liveRevisionId: null };
  },

  lookupRepeatsRequest: true,
  look: async (providers, accountId, asked, deadline) =>
    asked && (await lookForSent(providers, accountId, asked, deadline)),
  /** The whole template is sent, so asking again is harmless, and surer than comparing. */
  async lookup(providers, accountId, asked, _since, deadline) {
    return [await send(providers, accountId, asked, deadline)];
  },
} as const satisfies Omit<ProviderCommand<never, Revised, ProviderAgent | null, Agent>, "kind" | "prepare">;

/** Changes an agent: a new version, live once the provider has it. */
export const updateAgent: ProviderCommand<UpdateAgent, Revised, ProviderAgent | null, Agent> = {
  ...revising,
  kind: "agents.update",

  async prepare(tx, { id, name, metadata, ...changes }, { actor }) {
    const before = await loadAgent(tx, id);
    const config = withChanges(before.config, changes);
    return revise(tx, before, { name: name ?? before.agent.name, config, metadata }, actor);
  },
};

/** Makes what an agent was once into what it is now: a change like any other. */
export const restoreAgent: ProviderCommand<AgentVersionId, Revised, ProviderAgent | null, Agent> = {
  ...revising,
  kind: "agents.versions.restore",

  async prepare(tx, { id, version }, { actor }) {
    const before = await loadAgent(tx, id);
    const { name, config } = await onceLive(tx, id, version);
    return revise(tx, before, { name, config: AgentConfig.parse(config) }, actor);
  },
};

/** What is left out stays. One kind of voice takes the other's place. */
function withChanges(before: AgentConfig, changes: Partial<Record<keyof AgentConfig, unknown>>): AgentConfig {
  const given = Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined));
  const other = given.voice ? { voiceId: null } : given.voiceId ? { voice: null } : {};
  return AgentConfig.parse({ ...before, ...other, ...given });
}

async function revise(tx: Tx, before: Before, { name, config, metadata }: Wanted, actor: string) {
  const { id, providerAccountId } = before.agent;
  const changed = differences({ name: before.agent.name, ...before.config }, { name, ...config });
  const found = changed.length > 0 ? await referencesOf(tx, config, { lock: true }) : null;
  const agent = await lockAgent(tx, id);
  if (agent.status !== "active" || !agent.providerAgentId) {
    throw new ApiError("agent_not_active", `Agent ${id} is ${agent.status}; only an active one can be changed.`);
  }
  await refuseBusy(tx, id);
  // It was read before it was locked: somebody may have been quicker.
  if (agent.version !== before.agent.version) throw new ApiError("agent_busy", undefined, { retryAfterSeconds: 1 });
  if (!found) {
    if (metadata && differences(agent.metadata, metadata).length > 0) await change(tx, id, { metadata });
    return { subjectId: id, providerAccountId, asked: null };
  }
  checkConfig(config, found, changed);
  // Another name is nothing to what the agent is made of.
  if (changed.some((field) => field !== "name")) checkReferences(config, found, providerAccountId, before.config);
  await refuseSilence(tx, agent, requiredOf(config, found.tools));
  const version = (await newestVersion(tx, id)) + 1;
  await tx.insert(agentVersions).values({
    ...{ agentId: id, version, name, config, changed, createdBy: actor },
    status: "pending",
    metadata: metadata ?? null,
  });
  await keepUses(tx, id, config, found);
  return {
    subjectId: id,
    providerAccountId,
    asked: {
      providerAgentId: agent.providerAgentId,
      template: templateOf(config, standing(found)),
      liveRevisionId: (await versionOf(tx, id, agent.version)).providerRevisionId,
    },
  };
}

/** A change after which the agent could not answer its inbound routes any more is refused: callers would hear nothing. */
async function refuseSilence(tx: Tx, { id, requiredVariables }: AgentRow, required: string[]) {
  if (required.length === 0 || requiredVariables?.length) return;
  const routes = await enabledRoutes(tx, id);
  if (routes.length === 0) return;
  const message = `${needsVariables(required)} Its inbound routes would answer nobody.`;
  const details = routes.map((route) => ({
    path: route.id,
    message: `The route ${route.pattern} leads to this agent.`,
  }));
  throw new ApiError("agent_needs_variables", message, { details });
}

/** The names of the fields that differ. */
function differences(before: Record<string, unknown>, after: Record<string, unknown>): string[] {
  const text = (value: unknown) => JSON.stringify(canonical(value));
  const names = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...names].filter((name) => text(before[name]) !== text(after[name]));
}
