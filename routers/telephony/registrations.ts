import { and, desc, eq, isNotNull, lt, ne, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { enqueue } from "../../db/queue.ts";
import { sipRegistrations } from "../../db/schema/telephony.ts";
import { ApiError } from "../core/errors.ts";
import { toIso } from "../core/fields.ts";
import { type ListKey, readCursor, toPage } from "../core/pagination.ts";
import type { ProviderCommand } from "../core/provider-command.ts";
import { accountFor } from "../credentials/accounts.ts";
import { ProviderError } from "../ports/provider-error.ts";
import type { ProviderRegistration } from "../ports/ultravox.ts";
import type { CreateRegistration, ListRegistrations, Registration } from "./schema.ts";

type Row = typeof sipRegistrations.$inferSelect;
type Asked = CreateRegistration & {
  /** What the provider may have of the same SIP account by earlier registrations of this client: their removal goes on. */
  earlier: string[];
};
type Account = Pick<CreateRegistration, "username" | "proxy">;
const now = sql`clock_timestamp()` as unknown as Date; // drizzle takes an expression where its types ask for a value

/** Has the voice provider register with a SIP server. The password is in what is asked, and in no row. */
export const createRegistration: ProviderCommand<CreateRegistration, Asked, ProviderRegistration, Registration> = {
  kind: "telephony.registrations.create",
  status: 201,
  busyCode: "registration_busy",
  unnamed: true,

  async prepare(tx, { password, ...fields }) {
    const providerAccountId = await accountFor(tx);
    const id = newId("sipRegistration");
    const [row] = await tx
      .insert(sipRegistrations)
      .values({ id, ...fields, status: "provisioning", providerAccountId })
      .onConflictDoNothing()
      .returning();
    if (!row) throw new ApiError("registration_taken");
    return { subjectId: id, providerAccountId, request: { ...fields, password, earlier: await earlierOf(tx, fields) } };
  },

  /** One that somebody else made there is looked for first: afterwards, should the answer be lost, it could pass for this one. */
  async execute({ ultravox }, accountId, { earlier, ...asked }, deadline) {
    const there = await ultravox.listRegistrations(accountId, deadline);
    if (there.some((each) => isOf(asked, each) && !earlier.includes(each.providerRegistrationId)))
      throw takenThere(asked);
    return ultravox.createRegistration(accountId, asked, deadline);
  },

  async onAccepted(tx, subjectId, { providerRegistrationId, registered }) {
    await change(tx, subjectId, { status: "active", statusReason: null, providerRegistrationId, registered });
  },

  onFailed: (tx, subjectId, { message }) => change(tx, subjectId, { status: "failed", statusReason: message }),
  onUnknown: async () => {}, // it stays `provisioning` until the safety job knows
  read: getRegistration,

  /** Never to ask again with: the password is gone. It is only looked for. */
  async rebuildRequest(tx, subjectId) {
    const [row] = await tx.select().from(sipRegistrations).where(eq(sipRegistrations.id, subjectId));
    const { username, proxy, outboundProxy, authUser } = row!;
    const earlier = await earlierOf(tx, { username, proxy });
    return { username, proxy, outboundProxy, authUser, password: "", earlier };
  },

  /**
   * A create happens once, so at most one can be ours. Older ones are somebody's who was there before; and of several
   * nobody can say whose is whose, so none is taken, and none removed.
   */
  async lookup({ ultravox }, accountId, { earlier, ...asked }, since, deadline) {
    const all = await ultravox.listRegistrations(accountId, deadline);
    const found = all.filter(
      (each) => isOf(asked, each) && each.createdAt >= since && !earlier.includes(each.providerRegistrationId),
    );
    return found.length === 1 ? found : [];
  },

  async onOrphan(tx, subjectId, accountId, { providerRegistrationId }) {
    const [row] = await tx.select().from(sipRegistrations).where(eq(sipRegistrations.id, subjectId));
    if (row?.providerRegistrationId === providerRegistrationId) return;
    await enqueue(tx, "upstream.remove", { kind: "registration", accountId, providerId: providerRegistrationId });
  },
};

const isOf = ({ username, proxy }: Account, there: ProviderRegistration) =>
  there.username === username && there.proxy === proxy;

async function earlierOf(tx: Tx, { username, proxy }: Account): Promise<string[]> {
  const rows = await tx
    .select({ id: sipRegistrations.providerRegistrationId })
    .from(sipRegistrations)
    .where(
      and(
        eq(sipRegistrations.username, username),
        eq(sipRegistrations.proxy, proxy),
        isNotNull(sipRegistrations.providerRegistrationId),
      ),
    );
  return rows.flatMap(({ id }) => id ?? []);
}

function takenThere({ username, proxy }: Account): ProviderError {
  const message = `username, proxy: The voice provider has a registration of ${username} at ${proxy} already that was not made by you here. Take another SIP account, or have that one removed there first.`;
  return new ProviderError("refused", message);
}

export async function getRegistration(tx: Tx, id: string): Promise<Registration> {
  const [row] = await tx.select().from(sipRegistrations).where(shown(id));
  if (!row) throw notFound(id);
  return toRegistration(row);
}

export async function listRegistrations(tx: Tx, { limit, cursor }: ListRegistrations, key: ListKey) {
  const before = readCursor(key, cursor);
  const rows = await newestRegistrations(tx, limit + 1, before);
  return toPage(key, rows.map(toRegistration), limit, ({ id }) => id);
}

export const newestRegistrations = (tx: Tx, limit: number, before: string | null = null) =>
  tx
    .select()
    .from(sipRegistrations)
    .where(and(ne(sipRegistrations.status, "deleted"), before === null ? undefined : lt(sipRegistrations.id, before)))
    .orderBy(desc(sipRegistrations.id))
    .limit(limit);

export async function removeRegistration(tx: Tx, id: string) {
  const [row] = await tx.select().from(sipRegistrations).where(shown(id)).for("update");
  if (!row) throw notFound(id);
  if (row.status === "provisioning") throw new ApiError("registration_busy", undefined, { retryAfterSeconds: 1 });
  await change(tx, id, { status: "deleted" });
  if (!row.providerRegistrationId) return;
  await enqueue(tx, "upstream.remove", {
    kind: "registration",
    accountId: row.providerAccountId,
    providerId: row.providerRegistrationId,
  });
}

/** Keeps what the provider says of them, where it has changed. */
export async function noteRegistered(tx: Tx, rows: Row[], seen: ProviderRegistration[]): Promise<Row[]> {
  const current: Row[] = [];
  for (const row of rows) {
    const found = seen.find((each) => each.providerRegistrationId === row.providerRegistrationId);
    if (!found || found.registered === row.registered) current.push(row);
    else {
      await change(tx, row.id, { registered: found.registered, registeredAt: now });
      current.push({ ...row, registered: found.registered });
    }
  }
  return current;
}

async function change(tx: Tx, id: string, set: Partial<typeof sipRegistrations.$inferInsert>) {
  await tx
    .update(sipRegistrations)
    .set({ ...set, updatedAt: now })
    .where(eq(sipRegistrations.id, id));
}

const shown = (id: string) => and(eq(sipRegistrations.id, id), ne(sipRegistrations.status, "deleted"));
const notFound = (id: string) => new ApiError("registration_not_found", `There is no SIP registration ${id}.`);

export function toRegistration(row: Row): Registration {
  const { id, username, proxy, outboundProxy, authUser, status, statusReason, registered, createdAt } = row;
  return {
    id,
    username,
    proxy,
    outboundProxy,
    authUser,
    status: status as Registration["status"],
    statusReason,
    registered,
    createdAt: toIso(createdAt),
  };
}
