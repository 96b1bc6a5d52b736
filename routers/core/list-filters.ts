import { and, gte, lt, type SQL, sql } from "drizzle-orm";
import type { PgColumn } from "drizzle-orm/pg-core";
import { z } from "zod";
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

export const createdWithin = (column: PgColumn, { createdAfter, createdBefore }: Created): SQL | undefined =>
  and(
    createdAfter === undefined ? undefined : gte(column, new Date(createdAfter)),
    createdBefore === undefined ? undefined : lt(column, new Date(createdBefore)),
  );

export const containsText = (column: PgColumn, search: string | undefined): SQL | undefined =>
  search === undefined ? undefined : sql`strpos(lower(${column}), lower(${search})) > 0`;

/**
 * Row-level security keeps PostgreSQL from using a GIN index here. The list walks the primary key, which begins with
 * `client_id`, so a filter reads the rows of one client at most.
 */
export const hasMetadata = (column: PgColumn, metadata: Record<string, string> = {}): SQL | undefined =>
  and(...Object.entries(metadata).map(([key, value]) => sql`${column} ->> ${key} = ${value}`));
