import { and, gte, lt, type Placeholder, type SQL, sql } from "drizzle-orm";
import type { PgColumn } from "drizzle-orm/pg-core";
import { z } from "zod";
import type { Given } from "../../db/prepared.ts";
import { boundedRecord } from "./bounds.ts";
import { examples, TimestampInput } from "./fields.ts";

/** Filters that mean the same on every list that has them. */
export const createdFilter = {
  createdAfter: TimestampInput.optional().meta({
    description: "Only those created at this time or later.",
    examples: [examples.instant],
  }),
  createdBefore: TimestampInput.optional().meta({
    description: "Only those created before this time.",
    examples: [examples.instant],
  }),
};

export const searchFilter = {
  search: z
    .string()
    .trim()
    .min(1)
    .max(100)
    .optional()
    .meta({ description: "Part of the name. Case does not matter.", examples: ["recep"] }),
};

export const metadataFilter = {
  metadata: boundedRecord(z.string().max(40), z.string().max(500), 5)
    .optional()
    .meta({ description: "Only those with all of these pairs. Write `metadata=key:value` and repeat it." }),
};

type Created = { createdAfter?: string | undefined; createdBefore?: string | undefined };

/** The values of these filters for a query of `pages`. */
export const createdValues = ({ createdAfter, createdBefore }: Created) => ({
  createdAfter: createdAfter && new Date(createdAfter).toISOString(),
  createdBefore: createdBefore && new Date(createdBefore).toISOString(),
});

export const createdWithin = (
  column: PgColumn,
  { createdAfter, createdBefore }: Given<keyof Created>,
): SQL | undefined => and(createdAfter && gte(column, createdAfter), createdBefore && lt(column, createdBefore));

export const containsText = (column: PgColumn, search: Placeholder | undefined): SQL | undefined =>
  search && sql`strpos(lower(${column}), lower(${search})) > 0`;

const places = [0, 1, 2, 3, 4] as const;
export type MetadataValues = `${"key" | "value"}${(typeof places)[number]}`;

/** The values of a filter by metadata for a query of `pages`. */
export const metadataValues = (metadata: Record<string, string> = {}): { [K in MetadataValues]?: string } =>
  Object.fromEntries(
    Object.entries(metadata).flatMap(([key, value], n) => [
      [`key${n}`, key],
      [`value${n}`, value],
    ]),
  );

/**
 * Row-level security keeps PostgreSQL from using a GIN index here. The list walks the primary key, which begins with
 * `client_id`, so a filter reads the rows of one client at most.
 */
export const hasMetadata = (column: PgColumn, given: Given<MetadataValues>): SQL | undefined =>
  and(...places.map((n) => given[`key${n}`] && sql`${column} ->> ${given[`key${n}`]} = ${given[`value${n}`]}`));
