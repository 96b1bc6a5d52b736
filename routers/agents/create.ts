import { and, eq } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { enqueue } from "../../db/queue.ts";
import { agents, agentVersions } from "../../db/schema/agents.ts";
import { ApiError } from "../core/errors.ts";
import type { ProviderCommand } from "../core/provider-command.ts";
import { accountFor } from "../credentials/accounts.ts";
import type { ProviderAgent } from "../ports/ultravox.ts";
import { checkReferences, dropUses, keepUses, referencesOf } from "./references.ts";
import { type Agent, AgentConfig, type CreateAgent, type DuplicateAgent } from "./schema.ts";
import { getAgent, loadAgent } from "./service.ts";
import { openTemplate, type SealedTemplate, templateOf, templateWithoutDeleted } from "./template.ts";
import { change, checkConfig, emitAgentEvent, goLive, markVersion, pendingVersion } from "./versions/change.ts";

export type Created = { id: string; template: SealedTemplate };
type Wanted = { name: string; config: AgentConfig; metadata: Record<string, string> };

/** Shared by every provider command that creates an agent. Its name at the provider is our id. */
const createCommand = {
  status: 201,
  busyCode: "agent_busy",

  async execute({ ultravox, vault }, accountId, { id, template }, deadline) {
    return ultravox.createAgent(accountId, { id, template: await openTemplate(vault, template) }, deadline);
  },

  async onAccepted(tx, subjectId, providerAgent) {
    await goLive(tx, subjectId, 1, providerAgent);
    await emitAgentEvent(tx, "agent.created", subjectId);
  },

  async onFailed(tx, subjectId, { message }) {
    await change(tx, subjectId, { status: "failed", statusReason: message });
    await markVersion(tx, subjectId, 1, { status: "failed" });
    await dropUses(tx, subjectId);
  },

  onUnknown: async () => {}, // the agent stays `provisioning` until the recovery job settles it
  read: getAgent,

  async rebuildRequest(tx, subjectId) {
    const { config } = await pendingVersion(tx, subjectId);
    return { id: subjectId, template: await templateWithoutDeleted(tx, AgentConfig.parse(config)) };
  },

  lookup: ({ ultravox }, accountId, request, _since, deadline) => ultravox.findAgents(accountId, request.id, deadline),
  onOrphan: removeOrphan,
} as const satisfies Omit<ProviderCommand<never, Created, ProviderAgent, Agent>, "kind" | "prepare">;

/** Creates an agent here and at the provider. */
export const createAgent: ProviderCommand<CreateAgent, Created, ProviderAgent, Agent> = {
  ...createCommand,
  kind: "agents.create",
  prepare: (tx, { name, metadata, ...config }, { actor }) => begin(tx, { name, config, metadata }, actor),
};

/** Creates a new agent from the live version of another one. */
export const duplicateAgent: ProviderCommand<DuplicateAgent, Created, ProviderAgent, Agent> = {
  ...createCommand,
  kind: "agents.duplicate",

  async prepare(tx, { id, name }, { actor }) {
    const { agent, config } = await loadAgent(tx, id);
    if (agent.version === 0)
      throw new ApiError(
        "agent_not_active",
        `Agent ${id} was never live, so it cannot be duplicated. Create a new agent instead.`,
      );
    const copy = name ?? `${agent.name.slice(0, 93)} (copy)`;
    return begin(tx, { name: copy, config, metadata: agent.metadata }, actor);
  },
};

async function begin(tx: Tx, { name, config, metadata }: Wanted, actor: string) {
  const id = newId("agent");
  const providerAccountId = await accountFor(tx);
  const found = await referencesOf(tx, config, { lock: true });
  checkConfig(config, found);
  checkReferences(config, found, providerAccountId);
  await tx.insert(agents).values({ id, name, metadata, status: "provisioning", providerAccountId });
  await tx.insert(agentVersions).values({ agentId: id, version: 1, name, config, status: "pending", createdBy: actor });
  await keepUses(tx, id, config, found);
  return { subjectId: id, providerAccountId, request: { id, template: templateOf(config, found) } };
}

/** Removes a second agent with our name, or one found too late: no call would ever use it. */
export async function removeOrphan(tx: Tx, id: string, accountId: string, { providerAgentId }: ProviderAgent) {
  const [agent] = await tx
    .select({ ours: agents.providerAgentId })
    .from(agents)
    .where(and(eq(agents.id, id), eq(agents.status, "active")));
  if (agent?.ours === providerAgentId) return;
  const removal = { kind: "agent", accountId, providerId: providerAgentId } as const;
  await enqueue(tx, "upstream.remove", removal, { key: providerAgentId });
}
