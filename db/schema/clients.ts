import { sql } from "drizzle-orm";
import { index, jsonb, pgPolicy, pgTable, primaryKey, text, unique } from "drizzle-orm/pg-core";
import {
  at,
  bytes,
  clientId,
  createdAt,
  currentClient,
  currentUser,
  id,
  systemPolicy,
  tenantPolicy,
  tenantRole,
} from "./columns.ts";

export const clients = pgTable(
  "clients",
  {
    id: id().primaryKey(),
    name: text().notNull(),
    status: text({ enum: ["active", "suspended"] })
      .notNull()
      .default("active"),
    suspendedReason: text(),
    suspendedAt: at(),
    /** An IANA name. It decides when a day of this client begins. */
    timezone: text().notNull().default("UTC"),
    metadata: jsonb().$type<Record<string, string>>().notNull().default({}),
    createdAt: createdAt(),
    updatedAt: createdAt(),
  },
  (t) => [
    pgPolicy("own_rows", {
      to: tenantRole,
      for: "select",
      using: sql`${t.id} = ${currentClient} or exists (select from memberships m where m.client_id = ${t.id})`,
    }),
    pgPolicy("own_changes", {
      to: tenantRole,
      for: "update",
      using: sql`${t.id} = ${currentClient}`,
      withCheck: sql`${t.id} = ${currentClient}`,
    }),
    systemPolicy(),
  ],
);

export const users = pgTable(
  "users",
  {
    id: id().primaryKey(),
    /** The `sub` of the identity provider. */
    subject: text().notNull().unique(),
    email: text(),
    name: text(),
    createdAt: createdAt(),
  },
  (t) => [
    pgPolicy("own_row", {
      to: tenantRole,
      for: "select",
      using: sql`${t.id} = ${currentUser} or exists (select from memberships m where m.user_id = ${t.id} and m.client_id = ${currentClient})`,
    }),
    systemPolicy(),
  ],
);

/** A role is a set of scopes. `*` means all scopes, `*:read` all read scopes. The built-in roles are seeded. */
export const roles = pgTable("roles", { name: text().primaryKey(), scopes: text().array().notNull() }, () => [
  pgPolicy("everyone_reads", { to: [tenantRole], for: "select", using: sql`true` }),
  systemPolicy(),
]);

export const memberships = pgTable(
  "memberships",
  {
    clientId: clientId().references(() => clients.id),
    id: id(),
    userId: text()
      .notNull()
      .references(() => users.id),
    role: text()
      .notNull()
      .references(() => roles.name),
    status: text({ enum: ["active", "disabled"] })
      .notNull()
      .default("active"),
    createdAt: createdAt(),
  },
  (t) => [
    primaryKey({ columns: [t.clientId, t.id] }),
    unique().on(t.clientId, t.userId),
    index().on(t.userId),
    tenantPolicy(),
    pgPolicy("own_memberships", { to: tenantRole, for: "select", using: sql`${t.userId} = ${currentUser}` }),
    systemPolicy(),
  ],
);

/** Invitations to join a client. The token is needed to accept one; only its HMAC is stored. */
export const invitations = pgTable(
  "invitations",
  {
    clientId: clientId().references(() => clients.id),
    id: id(),
    email: text().notNull(),
    role: text()
      .notNull()
      .references(() => roles.name),
    tokenHash: text().notNull().unique(),
    invitedBy: text().notNull(),
    expiresAt: at().notNull(),
    acceptedAt: at(),
    acceptedBy: text(),
    revokedAt: at(),
    createdAt: createdAt(),
  },
  (t) => [primaryKey({ columns: [t.clientId, t.id] }), tenantPolicy(), systemPolicy()],
);

export const apiKeys = pgTable(
  "api_keys",
  {
    clientId: clientId().references(() => clients.id),
    id: id(),
    name: text().notNull(),
    /** The first characters in plain text, so that people recognise the key. */
    prefix: text().notNull(),
    /** HMAC-SHA256 of the whole key under the installation's pepper, in hex. The key itself is not stored. */
    hash: text().notNull().unique(),
    scopes: text().array().notNull(),
    expiresAt: at(),
    revokedAt: at(),
    lastUsedAt: at(),
    /** The key that replaced this one. Both can be valid for a while. */
    replacedBy: text(),
    /** The first key of its chain of rotations, whose idempotency keys it continues to use. null: itself. */
    rootId: text(),
    /** A person (`user_…`) or another key (`key_…`). Used to find the keys of a removed member, along the chain. */
    createdBy: text().notNull(),
    createdAt: createdAt(),
  },
  (t) => [primaryKey({ columns: [t.clientId, t.id] }), tenantPolicy(), systemPolicy()],
);

/** Stored responses, so that a repeated request gets the same response and runs nothing. */
export const idempotencyKeys = pgTable(
  "idempotency_keys",
  {
    clientId: clientId().references(() => clients.id),
    principal: text().notNull(),
    key: text().notNull(),
    fingerprint: text().notNull(),
    requestId: text().notNull(),
    /** `running`: only a provider command is visible so; the row of a plain command appears with its response. */
    status: text({ enum: ["running", "answered"] }).notNull(),
    intentId: text(),
    /** `{ status, data }` or `{ status, error, message, details }` as JSON, sealed by the vault. */
    answer: bytes(),
    /** The call that the response is about, if any: when that call is erased, so is the response. */
    subjectId: text(),
    leaseUntil: at(),
    createdAt: createdAt(),
    expiresAt: at().notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.clientId, t.principal, t.key] }),
    index().on(t.expiresAt),
    index("idempotency_keys_subject").on(t.clientId, t.subjectId).where(sql`subject_id is not null`),
    tenantPolicy(),
    systemPolicy(),
  ],
);

/** Data keys, wrapped by the master key named in `master`. */
export const dataKeys = pgTable(
  "data_keys",
  {
    clientId: clientId().references(() => clients.id),
    id: id(),
    purpose: text().notNull(),
    master: text().notNull(),
    wrapped: text().notNull(),
    createdAt: createdAt(),
  },
  (t) => [
    primaryKey({ columns: [t.clientId, t.id] }),
    unique().on(t.clientId, t.purpose),
    tenantPolicy(),
    systemPolicy(),
  ],
);
