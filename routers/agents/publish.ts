import { and, eq } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { enqueue } from "../../db/queue.ts";
import { agents, agentVersions } from "../../db/schema/agents.ts";
import { accountFor } from "../credentials/accounts.ts";
import { Fault } from "../fault.ts";
import type { Outbound } from "../intents/outbound.ts";
import type { ProviderAgent } from "../providers/ultravox.ts";
import { checkReferences, dropUses, keepUses, referencesOf } from "./references.ts";
import { type Agent, AgentConfig, type CreateAgent, type DuplicateAgent } from "./schema.ts";
import { getAgent, shownAgent } from "./service.ts";
import { openTemplate, type SealedTemplate, standingTemplate, templateOf } from "./template.ts";
import { change, checkConfig, goLive, markVersion, pendingVersion, say } from "./version.ts";

export type Created = { id: string; template: SealedTemplate };
type Wanted = { name: string; config: AgentConfig; metadata: Record<string, string> };

/** What every outbound that makes an agent at the provider, where its name is our id, has in common. */
const making = {
  status: 201,
  busy: "agent_busy",

  async ask({ ultravox, vault }, accountId, { id, template }, deadline) {
    return ultravox.createAgent(accountId, { id, template: await openTemplate(vault, template) }, deadline);
  },

  async accepted(tx, subjectId, got) {
    await goLive(tx, subjectId, 1, got);
    await say(tx, "agent.created", subjectId);
  },

  async failed(tx, subjectId, { message }) {
    await change(tx, subjectId, { state: "failed", stateReason: message });
    await markVersion(tx, subjectId, 1, { state: "failed" });
    await dropUses(tx, subjectId);
  },

  lost: async () => {}, // it stays `provisioning` until the safety job knows
  read: getAgent,

  async recall(tx, subjectId) {
    const { config } = await pendingVersion(tx, subjectId);
    return { id: subjectId, template: await standingTemplate(tx, AgentConfig.parse(config)) };
  },

  find: ({ ultravox }, accountId, asked, _since, deadline) => ultravox.findAgents(accountId, asked.id, deadline),
  stray: removeStray,
} as const satisfies Omit<Outbound<never, Created, ProviderAgent, Agent>, "kind" | "intend">;

/** Makes an agent here and at the provider. */
export const createAgent: Outbound<CreateAgent, Created, ProviderAgent, Agent> = {
  ...making,
  kind: "agents.create",
  intend: (tx, { name, metadata, ...config }, { actor }) => begin(tx, { name, config, metadata }, actor),
};

/** Makes a new agent of what another one is now. */
export const duplicateAgent: Outbound<DuplicateAgent, Created, ProviderAgent, Agent> = {
  ...making,
  kind: "agents.duplicate",

  async intend(tx, { id, name }, { actor }) {
    const { agent, config } = await shownAgent(tx, id);
    if (agent.version === 0)
      throw new Fault("agent_not_active", `Agent ${id} was never live: there is nothing to copy.`);
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
  await tx.insert(agents).values({ id, name, metadata, state: "provisioning", providerAccountId });
  await tx.insert(agentVersions).values({ agentId: id, version: 1, name, config, state: "pending", createdBy: actor });
  await keepUses(tx, id, config, found);
  return { subjectId: id, providerAccountId, asked: { id, template: templateOf(config, found) } };
}

/** A second agent of our name, or one that came to light too late: nobody here would ever use it. */
export async function removeStray(tx: Tx, id: string, accountId: string, { providerAgentId }: ProviderAgent) {
  const [agent] = await tx
    .select({ ours: agents.providerAgentId })
    .from(agents)
    .where(and(eq(agents.id, id), eq(agents.state, "active")));
  if (agent?.ours === providerAgentId) return;
  const removal = { kind: "agent", accountId, providerId: providerAgentId } as const;
  await enqueue(tx, "upstream.remove", removal, { key: providerAgentId });
}
