import { and, desc, eq, isNotNull, lt, ne } from "drizzle-orm";
import type { PgUpdateSetSource } from "drizzle-orm/pg-core";
import type { Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { enqueue } from "../../db/queue.ts";
import { sipRegistrations } from "../../db/schema/telephony.ts";
import { dbNow } from "../../db/time.ts";
import { ApiError } from "../core/errors.ts";
import { toIso } from "../core/fields.ts";
import { type ListKey, readCursor, toPage } from "../core/pagination.ts";
import type { ProviderCommand } from "../core/provider-command.ts";
import { accountFor } from "../credentials/accounts.ts";
import { ProviderError } from "../ports/provider-error.ts";
import type { ProviderRegistration } from "../ports/ultravox.ts";
import type { CreateRegistration, ListRegistrations, Registration } from "./schema.ts";

type Row = typeof sipRegistrations.$inferSelect;
type RegistrationRequest = CreateRegistration & {
  /** Ids of earlier registrations of this client for the same SIP account, which may still be under removal at the provider. */
  earlier: string[];
};
type Account = Pick<CreateRegistration, "username" | "proxy">;

/** Registers with a SIP server through the voice provider. The password is in the request only, in no row. */
export const createRegistration: ProviderCommand<
  CreateRegistration,
  RegistrationRequest,
  ProviderRegistration,
  Registration
> = {
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

  /** Looks first for a registration made elsewhere: if the response is lost, the lookup could mistake it for ours. */
  async execute({ ultravox }, accountId, { earlier, ...request }, deadline) {
    const existing = await ultravox.listRegistrations(accountId, [request.username], deadline);
    if (existing.some((each) => matches(request, each) && !earlier.includes(each.providerRegistrationId)))
      throw takenAtProvider(request);
    return ultravox.createRegistration(accountId, request, deadline);
  },

  async onAccepted(tx, subjectId, { providerRegistrationId, registered }) {
    await change(tx, subjectId, { status: "active", statusReason: null, providerRegistrationId, registered });
    return getRegistration(tx, subjectId);
  },

  onFailed: (tx, subjectId, { message }) => change(tx, subjectId, { status: "failed", statusReason: message }),
  onUnknown: async () => {}, // it stays `provisioning` until the recovery job settles it
  read: getRegistration,

  /** For the lookup only: the password is gone, so the request is never sent again. */
  async rebuildRequest(tx, subjectId) {
    const [row] = await tx.select().from(sipRegistrations).where(eq(sipRegistrations.id, subjectId));
    const { username, proxy, outboundProxy, authUser } = row!;
    const earlier = await earlierOf(tx, { username, proxy });
    return { username, proxy, outboundProxy, authUser, password: "", earlier };
  },

  /**
   * The create is sent once, so at most one match is ours. Older matches existed before. Of several new matches none can be
   * identified as ours, so none is adopted and none removed.
   */
  async lookup({ ultravox }, accountId, { earlier, ...request }, since, deadline) {
    const all = await ultravox.listRegistrations(accountId, [request.username], deadline);
    const found = all.filter(
      (each) => matches(request, each) && each.createdAt >= since && !earlier.includes(each.providerRegistrationId),
    );
    return found.length === 1 ? found : [];
  },

  async onOrphan(tx, subjectId, accountId, { providerRegistrationId }) {
    const [row] = await tx.select().from(sipRegistrations).where(eq(sipRegistrations.id, subjectId));
    if (row?.providerRegistrationId === providerRegistrationId) return;
    await enqueue(tx, "upstream.remove", { kind: "registration", accountId, providerId: providerRegistrationId });
  },
};

const matches = ({ username, proxy }: Account, registration: ProviderRegistration) =>
  registration.username === username && registration.proxy === proxy;

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

function takenAtProvider({ username, proxy }: Account): ProviderError {
  const message = `username, proxy: The voice provider already has a registration of ${username} at ${proxy} that you did not create here. Use another SIP account, or have that registration removed first.`;
  return new ProviderError("refused", message);
}

export async function getRegistration(tx: Tx, id: string): Promise<Registration> {
  const [row] = await tx.select().from(sipRegistrations).where(byId(id));
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
  const [row] = await tx.select().from(sipRegistrations).where(byId(id)).for("update");
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

/** Updates `registered` of the rows from the provider. Returns the current rows. */
export async function updateRegistered(tx: Tx, rows: Row[], fromProvider: ProviderRegistration[]): Promise<Row[]> {
  const current: Row[] = [];
  for (const row of rows) {
    const found = fromProvider.find((each) => each.providerRegistrationId === row.providerRegistrationId);
    if (!found || found.registered === row.registered) current.push(row);
    else {
      await change(tx, row.id, { registered: found.registered, registeredAt: dbNow() });
      current.push({ ...row, registered: found.registered });
    }
  }
  return current;
}

async function change(tx: Tx, id: string, set: PgUpdateSetSource<typeof sipRegistrations>) {
  await tx
    .update(sipRegistrations)
    .set({ ...set, updatedAt: dbNow() })
    .where(eq(sipRegistrations.id, id));
}

const byId = (id: string) => and(eq(sipRegistrations.id, id), ne(sipRegistrations.status, "deleted"));
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
