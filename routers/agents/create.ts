import { and, eq, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { prepared } from "../../db/prepared.ts";
import { enqueue } from "../../db/queue.ts";
import { agents, agentVersions } from "../../db/schema/agents.ts";
import { ApiError } from "../core/errors.ts";
import type { Prepared, ProviderCommand } from "../core/provider-command.ts";
import { accountFor } from "../credentials/accounts.ts";
import type { ProviderAgent } from "../ports/ultravox.ts";
import { checkReferences, dropUses, keepUses, type References, referencesOf } from "./references.ts";
import { type Agent, AgentConfig, type CreateAgent, type DuplicateAgent } from "./schema.ts";
import { getAgent, loadAgent } from "./service.ts";
import { openTemplate, type SealedTemplate, templateOf, templateWithoutDeleted } from "./template.ts";
import {
  change,
  checkConfig,
  goLive,
  lockWithPending,
  markVersion,
  pendingVersion,
  type WithPending,
} from "./versions/change.ts";

export type Created = { id: string; template: SealedTemplate };
type Wanted = { name: string; config: AgentConfig; metadata: Record<string, string> };

/** Shared by every provider command that creates an agent. Its name at the provider is our id. */
const createCommand = {
  status: 201,
  busyCode: "agent_busy",

  async execute({ ultravox, vault }, accountId, { id, template }, deadline) {
    return ultravox.createAgent(accountId, { id, template: await openTemplate(vault, template) }, deadline);
  },

  lockFirst: lockWithPending,

  onAccepted: (tx, _subjectId, providerAgent, locked) => goLive(tx, locked, providerAgent, "agent.created"),

  async onFailed(tx, subjectId, { message }) {
    await Promise.all([
      change(tx, subjectId, { status: "failed", statusReason: message }),
      markVersion(tx, subjectId, 1, { status: "failed" }),
      dropUses(tx, subjectId),
    ]);
  },

  onUnknown: async () => {}, // the agent stays `provisioning` until the recovery job settles it
  read: getAgent,

  async rebuildRequest(tx, subjectId) {
    const { config } = await pendingVersion(tx, subjectId);
    return { id: subjectId, template: await templateWithoutDeleted(tx, AgentConfig.parse(config)) };
  },

  lookup: ({ ultravox }, accountId, request, _since, deadline) => ultravox.findAgents(accountId, request.id, deadline),
  onOrphan: removeOrphan,
} as const satisfies Omit<
  ProviderCommand<never, Created, ProviderAgent, Agent, never, WithPending>,
  "kind" | "prepare"
>;

/** Creates an agent here and at the provider. */
export const createAgent: ProviderCommand<CreateAgent, Created, ProviderAgent, Agent, Promise<Needs>, WithPending> = {
  ...createCommand,
  kind: "agents.create",

  readFirst(tx, { name: _, metadata: __, ...config }) {
    const needs = needsOf(tx, config);
    needs.catch(() => {}); // handled where it is awaited
    return needs;
  },

  prepare: async (tx, { name, metadata, ...config }, { actor }, needs) =>
    begin(tx, { name, config, metadata }, actor, await needs),
};

/** Creates a new agent from the live version of another one. */
export const duplicateAgent: ProviderCommand<DuplicateAgent, Created, ProviderAgent, Agent, undefined, WithPending> = {
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
    return begin(tx, { name: copy, config, metadata: agent.metadata }, actor, await needsOf(tx, config));
  },
};

type Needs = { providerAccountId: string; found: References };

/** Reads and locks what a new agent refers to. */
async function needsOf(tx: Tx, config: AgentConfig): Promise<Needs> {
  const [providerAccountId, found] = await Promise.all([accountFor(tx), referencesOf(tx, config, { lock: true })]);
  return { providerAccountId, found };
}

async function begin(
  tx: Tx,
  { name, config, metadata }: Wanted,
  actor: string,
  { providerAccountId, found }: Needs,
): Promise<Prepared<Created>> {
  const id = newId("agent");
  checkConfig(config, found);
  checkReferences(config, found, providerAccountId);
  const request = { id, template: templateOf(config, found) };
  const writing = Promise.all([
    insertAgent(tx, { id, name, metadata, providerAccountId }),
    insertVersion(tx, { id, name, config, actor }),
    keepUses(tx, id, config, found),
  ]);
  return { subjectId: id, providerAccountId, request, writing };
}

const insertAgent = prepared((db) =>
  db.insert(agents).values({
    id: sql.placeholder("id"),
    name: sql.placeholder("name"),
    metadata: sql.placeholder("metadata"),
    status: "provisioning",
    providerAccountId: sql.placeholder("providerAccountId"),
  }),
);

const insertVersion = prepared((db) =>
  db.insert(agentVersions).values({
    agentId: sql.placeholder("id"),
    version: 1,
    name: sql.placeholder("name"),
    config: sql.placeholder("config"),
    status: "pending",
    createdBy: sql.placeholder("actor"),
  }),
);

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
