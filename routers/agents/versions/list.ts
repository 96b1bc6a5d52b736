import { and, desc, eq, getTableColumns, lt } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { agentVersions } from "../../../db/schema/agents.ts";
import { toIso } from "../../core/fields.ts";
import { createdWithin } from "../../core/list-filters.ts";
import { type ListKey, readCursor, toPage } from "../../core/pagination.ts";
import {
  AgentConfig,
  type AgentVersion,
  type AgentVersionId,
  type AgentVersionSummary,
  type ListVersions,
} from "../schema.ts";
import { loadAgent, versionOf } from "../service.ts";

type Row = Omit<typeof agentVersions.$inferSelect, "config" | "metadata" | "clientId">;

export async function listVersions(tx: Tx, { id, limit, cursor, ...filters }: ListVersions, key: ListKey) {
  const before = readCursor(key, cursor);
  await loadAgent(tx, id); // throws if there is no such agent
  const { config: _, metadata: __, clientId: ___, ...columns } = getTableColumns(agentVersions);
  const rows = await tx
    .select(columns)
    .from(agentVersions)
    .where(
      and(
        eq(agentVersions.agentId, id),
        before === null ? undefined : lt(agentVersions.version, Number(before)),
        createdWithin(agentVersions.createdAt, filters),
      ),
    )
    .orderBy(desc(agentVersions.version))
    .limit(limit + 1);
  return toPage(key, rows.map(toSummary), limit, ({ version }) => String(version));
}

export async function getVersion(tx: Tx, { id, version }: AgentVersionId): Promise<AgentVersion> {
  await loadAgent(tx, id);
  const row = await versionOf(tx, id, version);
  return { ...toSummary(row), config: AgentConfig.parse(row.config) };
}

function toSummary({
  agentId,
  version,
  name,
  status,
  changed,
  createdBy,
  createdAt,
  providerRevisionId,
}: Row): AgentVersionSummary {
  return { agentId, version, name, status, changed, createdBy, createdAt: toIso(createdAt), providerRevisionId };
}
