import { sql } from "drizzle-orm";
import { bigint, customType, pgPolicy, pgRole, text, timestamp } from "drizzle-orm/pg-core";

export const tenantRole = pgRole("patchbay_tenant").existing();
export const systemRole = pgRole("patchbay_system").existing();

/** The client of this transaction. After a transaction the setting reads '' and not NULL, hence nullif; `select` makes it once per query. */
export const currentClient = sql`(select nullif(current_setting('app.client_id', true), ''))`;
export const currentUser = sql`(select nullif(current_setting('app.user_id', true), ''))`;

export const id = () => text().notNull();
export const clientId = () => text().notNull().default(sql`nullif(current_setting('app.client_id', true), '')`);
export const at = () => timestamp({ withTimezone: true, mode: "date" });
export const createdAt = () => at().notNull().default(sql`clock_timestamp()`);
/** Millionths of a credit. */
export const micros = () => bigint({ mode: "number" });

export const bytes = customType<{ data: Buffer; driverData: Buffer }>({ dataType: () => "bytea" });
/** The 64-bit number of the transaction that wrote the row: what a tailer compares with the oldest still running. */
export const xid8 = customType<{ data: string; driverData: string }>({ dataType: () => "xid8" });

/** What every tenant table has: the tenant sees its own rows and can write no others. */
export const tenantPolicy = () =>
  pgPolicy("own_rows", {
    to: tenantRole,
    using: sql`client_id = ${currentClient}`,
    withCheck: sql`client_id = ${currentClient}`,
  });

/** Opens a table to the house: authentication, sweeps and workers that serve every client at once. */
export const systemPolicy = () => pgPolicy("house", { to: systemRole, using: sql`true`, withCheck: sql`true` });
