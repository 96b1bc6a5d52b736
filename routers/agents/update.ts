import type { Tx } from "../../db/client.ts";
import { agentVersions } from "../../db/schema/agents.ts";
import { ApiError } from "../core/errors.ts";
import { canonical } from "../core/pagination.ts";
import type { Prepared, ProviderCommand } from "../core/provider-command.ts";
import type { Providers } from "../ports/index.ts";
import type { Deadline } from "../ports/provider-error.ts";
import type { ProviderAgent } from "../ports/ultravox.ts";
import { checkReferences, keepUses, referencesOf } from "./references.ts";
import { type Agent, AgentConfig, type AgentVersionId, type UpdateAgent } from "./schema.ts";
import {
  type AgentRow,
  busy,
  enabledRoutes,
  getAgent,
  getLiveOrRetiredVersion,
  loadAgent,
  lockAgent,
  standingOf,
  toRouteDetail,
} from "./service.ts";
import {
  lookForSent,
  openTemplate,
  type Sent,
  templateOf,
  templateWithoutDeleted,
  withoutDeleted,
} from "./template.ts";
import { needsVariables, requiredOf } from "./variables.ts";
import {
  change,
  checkConfig,
  findPendingVersion,
  goLive,
  lockWithPending,
  markVersion,
  rewriteUses,
  type WithPending,
} from "./versions/change.ts";

/** null: the change does not concern the provider, so no request is sent. */
type Revision = Sent | null;
type UpdateCommand<Input, Found = undefined> = ProviderCommand<
  Input,
  Revision,
  ProviderAgent | null,
  Agent,
  Found,
  WithPending
>;
type Before = { agent: AgentRow; config: AgentConfig };
type Wanted = { name: string; config: AgentConfig; metadata?: Record<string, string> | undefined };

async function send({ ultravox, vault }: Providers, accountId: string, request: Revision, deadline: Deadline) {
  if (!request) return null;
  const template = await openTemplate(vault, request.template);
  return ultravox.updateAgent(accountId, request.providerAgentId, template, deadline);
}

/** Shared by every provider command that makes a new version of an agent. */
const revisionCommand = {
  status: 200,
  busyCode: "agent_busy",

  execute: send,

  lockFirst: lockWithPending,

  async onAccepted(tx, _subjectId, providerAgent, locked) {
    return providerAgent ? goLive(tx, locked, providerAgent, "agent.updated") : undefined;
  },

  async onFailed(tx, subjectId) {
    const pending = await findPendingVersion(tx, subjectId);
    if (!pending) return;
    await markVersion(tx, subjectId, pending.version, { status: "failed" });
    const { config } = await loadAgent(tx, subjectId);
    await rewriteUses(tx, subjectId, config);
  },

  onUnknown: async () => {}, // the version stays pending, and the agent busy, until the recovery job settles it
  read: getAgent,

  async rebuildRequest(tx, subjectId) {
    const pending = await findPendingVersion(tx, subjectId);
    if (!pending) return null;
    const { providerAgentId } = await lockAgent(tx, subjectId);
    const template = await templateWithoutDeleted(tx, AgentConfig.parse(pending.config));
    return { providerAgentId: providerAgentId ?? "", template, liveRevisionId: null };
  },

  lookupRepeatsRequest: true,
  look: async (providers, accountId, request, deadline) =>
    request && (await lookForSent(providers, accountId, request, deadline)),
  /** The request holds the whole template, so to repeat it is harmless, and more certain than a comparison. */
  async lookup(providers, accountId, request, _since, deadline) {
    return [await send(providers, accountId, request, deadline)];
  },
} as const satisfies Omit<UpdateCommand<never, never>, "kind" | "prepare">;

/** Changes an agent by a new version, which goes live once the provider has it. */
export const updateAgent: UpdateCommand<UpdateAgent, Promise<Before>> = {
  ...revisionCommand,
  kind: "agents.update",

  readFirst(tx, { id }) {
    const before = loadAgent(tx, id);
    before.catch(() => {}); // handled where it is awaited
    return before;
  },

  async prepare(tx, { id: _, name, metadata, ...changes }, { actor }, found) {
    const before = await found;
    const config = withChanges(before.config, changes);
    return revise(tx, before, { name: name ?? before.agent.name, config, metadata }, actor);
  },
};

/** Makes a new version from an earlier one: a change like any other. */
export const restoreAgent: UpdateCommand<AgentVersionId> = {
  ...revisionCommand,
  kind: "agents.versions.restore",

  async prepare(tx, { id, version }, { actor }) {
    const before = await loadAgent(tx, id);
    const { name, config } = await getLiveOrRetiredVersion(tx, id, version);
    return revise(tx, before, { name, config: AgentConfig.parse(config) }, actor);
  },
};

/** Omitted fields keep their value. `voice` and `voiceId` replace each other. */
function withChanges(before: AgentConfig, changes: Partial<Record<keyof AgentConfig, unknown>>): AgentConfig {
  const given = Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined));
  const replaced = given.voice ? { voiceId: null } : given.voiceId ? { voice: null } : {};
  return AgentConfig.parse({ ...before, ...replaced, ...given });
}

async function revise(
  tx: Tx,
  before: Before,
  { name, config, metadata }: Wanted,
  actor: string,
): Promise<Prepared<Revision>> {
  const { id, providerAccountId } = before.agent;
  const changed = differences({ name: before.agent.name, ...before.config }, { name, ...config });
  const found = changed.length > 0 ? await referencesOf(tx, config, { lock: true }) : null;
  const [agent, standing] = await Promise.all([lockAgent(tx, id), standingOf(tx, id)]);
  if (agent.status !== "active" || !agent.providerAgentId) {
    throw new ApiError("agent_not_active", `Agent ${id} is ${agent.status}; only an active one can be changed.`);
  }
  if (standing.isBusy) throw busy();
  // The agent was read before it was locked, so another request may have changed it since.
  if (agent.version !== before.agent.version) throw new ApiError("agent_busy", undefined, { retryAfterSeconds: 1 });
  if (!found) {
    if (metadata && differences(agent.metadata, metadata).length > 0) await change(tx, id, { metadata });
    return { subjectId: id, providerAccountId, request: null };
  }
  checkConfig(config, found, changed);
  // A new name does not change what the agent refers to.
  if (changed.some((field) => field !== "name")) checkReferences(config, found, providerAccountId, before.config);
  await refuseUnanswerable(tx, agent, requiredOf(config, found.tools));
  const { providerAgentId } = agent;
  const template = templateOf(config, withoutDeleted(found));
  const request = { providerAgentId, template, liveRevisionId: standing.liveRevisionId };
  const values = { agentId: id, version: standing.newestVersion + 1, name, config, changed, createdBy: actor };
  const writing = Promise.all([
    tx.insert(agentVersions).values({ ...values, status: "pending", metadata: metadata ?? null }),
    keepUses(tx, id, config, found),
  ]);
  return { subjectId: id, providerAccountId, request, writing };
}

/** Refuses a change after which the agent could no longer answer its inbound routes: callers would reach no agent. */
async function refuseUnanswerable(tx: Tx, { id, requiredVariables }: AgentRow, required: string[]) {
  if (required.length === 0 || requiredVariables?.length) return;
  const routes = await enabledRoutes(tx, id);
  if (routes.length === 0) return;
  const message = `${needsVariables(required)} Its inbound routes would answer no calls.`;
  throw new ApiError("agent_variables_required", message, { details: routes.map(toRouteDetail) });
}

/** The names of the fields that differ. */
function differences(before: Record<string, unknown>, after: Record<string, unknown>): string[] {
  const text = (value: unknown) => JSON.stringify(canonical(value));
  const names = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...names].filter((name) => text(before[name]) !== text(after[name]));
}
