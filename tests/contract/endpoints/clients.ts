import { newId } from "../../../db/ids.ts";
import type { SeededClient } from "../../../dev/seed.ts";
import { scopes } from "../../../routers/core/scopes.ts";
import type { TestApp } from "../../support/app.ts";
import { assign } from "../../support/numbers.ts";
import { type ModuleInputs, page } from "./resource.ts";

let numbers = 1000;
const freshNumber = () => `+49305678${++numbers}`;
let invited = 0;
/** The scopes of a member: only a caller with all of them may create one. */
const ofMembers = scopes.filter((scope) => /:read$|^(agents|calls|knowledge|tools|voices|webhooks):/.test(scope));

/** A second member beside the owner. */
async function addMember(h: TestApp, { clientId }: SeededClient, role = "viewer"): Promise<string> {
  const [userId, id] = [newId("user"), newId("membership")];
  await h.owner`insert into users (id, subject, email, name) values (${userId}, ${`auth0|${userId}`}, ${`${userId}@example.com`}, 'M')`;
  await h.owner`insert into memberships (client_id, id, user_id, role) values (${clientId}, ${id}, ${userId}, ${role})`;
  return id;
}

const person = () => ({ email: `guest${++invited}@example.com`, role: "viewer", expiresInHours: 24 });

export const clients: ModuleInputs = {
  async createResources({ h, who }) {
    const made = await h.post("/clients/current/invitations", person(), { key: await h.token(who) });
    return { member: await addMember(h, who), invitation: made.body.data.id };
  },
  needs: {
    "clients.members.update": ofMembers,
    "clients.members.remove": ofMembers,
    "clients.invitations.create": ofMembers,
  },
  inputs: {
    "clients.current": () => ({}),
    "clients.update": () => ({ name: "Ada's bakery", timezone: "Europe/Berlin", metadata: { tier: "gold" } }),
    "clients.roles": () => ({}),
    "clients.members.list": () => ({ ...page, role: "owner" }),
    "clients.members.get": ({ own }) => ({ id: own.member }),
    "clients.members.update": ({ own }) => ({
      id: own.member,
      role: "viewer",
      keepApiKeys: false,
      disableWebhooks: false,
    }),
    "clients.members.remove": async ({ h, who }) => ({
      id: await addMember(h, who),
      keepApiKeys: false,
      disableWebhooks: true,
    }),
    "clients.invitations.create": () => person(),
    "clients.invitations.list": () => page,
    "clients.invitations.withdraw": async ({ h, who }) => {
      const made = await h.post("/clients/current/invitations", person(), { key: await h.token(who) });
      return { id: made.body.data.id };
    },
    "clients.invitations.accept": async ({ h, who }) => {
      await h.owner`delete from memberships where user_id in (select id from users where subject = 'auth0|guest')`;
      const made = await h.post("/clients/current/invitations", person(), { key: await h.token(who) });
      return { token: made.body.data.token };
    },
  },
};

const price = {
  creditUsdMicros: 9000,
  callMicrosPerMinute: 8_000_000,
  telephoneMicrosPerMinute: 1_000_000,
  voiceCloneMicros: 40_000_000,
  roundingSeconds: 6,
};

export const admin: ModuleInputs = {
  inputs: {
    "admin.clients.create": () => ({
      name: "New bakery",
      timezone: "UTC",
      metadata: { crm: "17" },
      ownerEmail: "owner@example.com",
    }),
    "admin.clients.list": () => ({ ...page, status: "active", search: "ada" }),
    "admin.clients.get": ({ who }) => ({ id: who.clientId }),
    "admin.clients.suspend": async ({ h }) => ({ id: await emptyClient(h), reason: "The invoice is open." }),
    "admin.clients.resume": async ({ h }) => ({ id: await emptyClient(h) }),
    "admin.numbers.assign": ({ who }) => ({
      clientId: who.clientId,
      pattern: freshNumber(),
      maxRoutes: 5,
      note: "Ordered by mail.",
    }),
    "admin.numbers.list": ({ who }) => ({ ...page, clientId: who.clientId, pattern: "+4930" }),
    "admin.numbers.reassign": async ({ h, who }) => ({
      id: (await assign(h, who.clientId, freshNumber())).id,
      clientId: who.clientId,
      maxRoutes: 3,
      note: "Moved.",
    }),
    "admin.numbers.release": async ({ h, who }) => ({ id: (await assign(h, who.clientId, freshNumber())).id }),
    "admin.numbers.routes": ({ who }) => ({ ...page, clientId: who.clientId, status: "waiting" }),
    "admin.deliveries.get": () => ({}),
    "admin.deliveries.clients": () => ({ ...page, failing: false, windowMinutes: 60 }),
    "admin.deliveries.endpoints": ({ who }) => ({ ...page, clientId: who.clientId, health: "failing" }),
    "admin.deliveries.pauses.list": () => page,
    "admin.deliveries.pauses.set": ({ who }) => ({ scope: who.clientId, reason: "The receiver is being moved." }),
    "admin.deliveries.pauses.remove": async ({ h, who }) => {
      await h.owner`insert into delivery_pauses (scope, reason, paused_by) values (${who.clientId}, 'Moving.', 'user_x')
        on conflict do nothing`;
      return { scope: who.clientId };
    },
    "admin.setApart.list": () => ({ ...page, loop: "audit.chain" }),
    "admin.setApart.retry": async ({ h, who }) => {
      const id = newId("setApart");
      await h.owner`insert into set_apart (id, loop, subject, client_id, reason)
        values (${id}, 'audit.chain', ${id}, ${who.clientId}, 'It could not be read.')`;
      return { id };
    },
    "admin.members.list": ({ who }) => ({ ...page, id: who.clientId, role: "owner" }),
    "admin.members.invite": ({ who }) => ({ id: who.clientId, ...person() }),
    "admin.members.update": ({ who, own }) => ({
      id: who.clientId,
      memberId: own.member,
      role: "viewer",
      keepApiKeys: false,
      disableWebhooks: false,
    }),
    "admin.members.remove": async ({ h, who }) => ({
      ...{ id: who.clientId, memberId: await addMember(h, who) },
      keepApiKeys: true,
      disableWebhooks: true,
    }),
    "admin.prices.list": ({ who }) => ({ ...page, id: who.clientId }),
    "admin.credits.grant": async ({ h }) => ({
      id: await emptyClient(h),
      amountMicros: 250_000_000,
      reason: "Paid by invoice 7.",
    }),
    "admin.prices.set": async ({ h }) => ({
      id: await emptyClient(h),
      ...price,
      effectiveFrom: "2099-01-01T00:00:00.000Z",
    }),
    "admin.prices.remove": async ({ h }) => ({ id: await emptyClient(h) }),
  },
};

/** A new resource that no other test of this file uses. */
async function emptyClient(h: TestApp): Promise<string> {
  const id = newId("client");
  await h.owner`insert into clients (id, name) values (${id}, 'Empty')`;
  return id;
}
