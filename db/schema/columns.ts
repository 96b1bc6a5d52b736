import { sql } from "drizzle-orm";
import { bigint, customType, pgPolicy, pgRole, text, timestamp } from "drizzle-orm/pg-core";

export const tenantRole = pgRole("patchbay_tenant").existing();
export const systemRole = pgRole("patchbay_system").existing();

/** The client of this transaction. After a transaction the setting is '' and not NULL, so nullif. `select` evaluates it once per query. */
export const currentClient = sql`(select nullif(current_setting('app.client_id', true), ''))`;
export const currentUser = sql`(select nullif(current_setting('app.user_id', true), ''))`;

export const id = () => text().notNull();
export const clientId = () => text().notNull().default(sql`nullif(current_setting('app.client_id', true), '')`);
export const at = () => timestamp({ withTimezone: true, mode: "date" });
export const createdAt = () => at().notNull().default(sql`clock_timestamp()`);
/** Millionths of a credit. */
export const micros = () => bigint({ mode: "number" });

export const bytes = customType<{ data: Buffer; driverData: Buffer }>({ dataType: () => "bytea" });
/** The 64-bit id of the transaction that wrote the row. A tailer compares it with the oldest running transaction. */
export const xid8 = customType<{ data: string; driverData: string }>({ dataType: () => "xid8" });

/** The policy of every tenant table: a tenant reads and writes its own rows only. */
export const tenantPolicy = () =>
  pgPolicy("own_rows", {
    to: tenantRole,
    using: sql`client_id = ${currentClient}`,
    withCheck: sql`client_id = ${currentClient}`,
  });

/** Opens a table to the system login: authentication, sweeps and workers that serve all clients. */
export const systemPolicy = () => pgPolicy("system", { to: systemRole, using: sql`true`, withCheck: sql`true` });
