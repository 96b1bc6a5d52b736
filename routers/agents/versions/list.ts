import { and, desc, eq, getTableColumns, lt, sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { type Given, pages, type Wire } from "../../../db/prepared.ts";
import { agentVersions } from "../../../db/schema/agents.ts";
import { toIso } from "../../core/fields.ts";
import { createdValues, createdWithin } from "../../core/list-filters.ts";
import { type ListKey, readCursor, toPage } from "../../core/pagination.ts";
import {
  AgentConfig,
  type AgentVersion,
  type AgentVersionId,
  type AgentVersionSummary,
  type ListVersions,
} from "../schema.ts";
import { loadAgent, versionOf } from "../service.ts";

type Row = Wire<Omit<typeof agentVersions.$inferSelect, "config" | "metadata" | "clientId">>;

export async function listVersions(tx: Tx, { id, limit, cursor, ...filters }: ListVersions, key: ListKey) {
  const before = readCursor(key, cursor);
  await loadAgent(tx, id); // throws if there is no such agent
  const given = { agentId: id, ...createdValues(filters) };
  const rows = await versionPages(tx, { ...given, before: before && Number(before), limit: limit + 1 });
  return toPage(key, rows.map(toSummary), limit, ({ version }) => String(version));
}

const { config: _, metadata: __, clientId: ___, ...columns } = getTableColumns(agentVersions);

const versionPages = pages(
  (db, given: Given<"agentId" | "createdAfter" | "createdBefore">) =>
    db
      .select(columns)
      .from(agentVersions)
      .where(
        and(
          eq(agentVersions.agentId, given.agentId!),
          given.before && lt(agentVersions.version, given.before),
          createdWithin(agentVersions.createdAt, given),
        ),
      )
      .orderBy(desc(agentVersions.version))
      .limit(sql.placeholder("limit")),
  ["agentId"],
);

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
