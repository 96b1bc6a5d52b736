import { newId } from "../../db/ids.ts";
import { balancesOf, grantCredits } from "../billing/ledger.ts";
import { Balance } from "../billing/schema.ts";
import { invite } from "../clients/invitations.ts";
import { changeRole, listMembers, removeMember } from "../clients/members.ts";
import { ChangedMember, Client, ClientPage, CreatedInvitation, MemberPage, RemovedMember } from "../clients/schema.ts";
import { operatorClientCommand, operatorCommand, operatorQuery, router } from "../core/procedures.ts";
import { rest } from "../core/rest-metadata.ts";
import { adminIngress } from "../ingress/router.ts";
import { adminSetApart } from "../set-apart/router.ts";
import { adminNumbers } from "../telephony/numbers-router.ts";
import { adminDispatch } from "./deliveries/router.ts";
import {
  AdminClientId,
  CreateClient,
  CreatedClient,
  GiveCredits,
  InviteMember,
  ListClientMembers,
  ListClients,
  ListPrices,
  Price,
  PricePage,
  RemoveClientMember,
  SetPrice,
  SuspendClient,
  UpdateClientMember,
} from "./schema.ts";
import {
  createClient,
  dropPrices,
  getClient,
  listClients,
  listPrices,
  resumeClient,
  setPrice,
  suspendClient,
} from "./service.ts";

const operator = (ctx: { principal: { id: string } }) => ({ id: ctx.principal.id, kind: "operator" as const });

/** For those who run the installation. */
export const admin = router({
  ingress: adminIngress,
  setApart: adminSetApart,

  clients: router({
    create: operatorCommand
      .meta(
        rest("POST", "/admin/clients", "platform:write", "Create a client", {
          description:
            "Makes a client without members. With `ownerEmail` its first owner is invited too: the answer has the invitation's token, this once, and nothing is sent by us.",
        }),
      )
      .input(CreateClient)
      .output(CreatedClient)
      .mutation(async ({ ctx, input: { ownerEmail, ...input } }) => {
        const client = await createClient(ctx.tx, input);
        if (!ownerEmail) return { ...client, invitationToken: null };
        const wanted = { email: ownerEmail, role: "owner" as const, expiresInHours: 168 };
        const { token } = await invite(ctx.tx, wanted, operator(ctx), ctx.hashKey, client.id);
        return { ...client, invitationToken: token };
      }),

    list: operatorQuery
      .meta(
        rest("GET", "/admin/clients", "platform:read", "List clients", {
          description: "All clients of the installation, newest first, suspended ones too.",
          faults: ["cursor_invalid"],
        }),
      )
      .input(ListClients)
      .output(ClientPage)
      .query(({ ctx, input }) => listClients(ctx.tx, input, ctx.listKey)),

    get: operatorQuery
      .meta(
        rest("GET", "/admin/clients/{id}", "platform:read", "Get a client", {
          description: "Its name, time zone and metadata, and whether it is suspended, and why.",
          faults: ["client_not_found"],
        }),
      )
      .input(AdminClientId)
      .output(Client)
      .query(({ ctx, input }) => getClient(ctx.tx, input.id)),

    suspend: operatorCommand
      .meta(
        rest("POST", "/admin/clients/{id}/suspend", "platform:write", "Suspend a client", {
          description:
            "Its keys and tokens answer 403 at once. What it had queued waits; what is under way at a provider is settled.",
          faults: ["client_not_found"],
        }),
      )
      .input(SuspendClient)
      .output(Client)
      .mutation(({ ctx, input }) => suspendClient(ctx.tx, input)),

    resume: operatorCommand
      .meta(
        rest("POST", "/admin/clients/{id}/resume", "platform:write", "Resume a client", {
          description:
            "Its keys and tokens are let in again from now on, and what waited goes its way. Where a client is not suspended nothing changes.",
          faults: ["client_not_found"],
        }),
      )
      .input(AdminClientId)
      .output(Client)
      .mutation(({ ctx, input }) => resumeClient(ctx.tx, input.id)),
  }),

  credits: router({
    give: operatorClientCommand
      .meta(
        rest("POST", "/admin/clients/{id}/credits", "platform:write", "Give a client credits", {
          description:
            "Posts them to its ledger, where the client reads the reason, and tells it by `credits.granted`. Send an Idempotency-Key: then a request that is repeated gives once. What was given is not taken back.",
          faults: ["client_not_found"],
        }),
      )
      .input(GiveCredits)
      .output(Balance)
      .mutation(async ({ ctx, input: { amountMicros, reason } }) => {
        // Of its own, and not the request's id, which the caller chooses: what is sent twice on purpose is given twice.
        await grantCredits(ctx.tx, newId("grant"), amountMicros, reason);
        return balancesOf(ctx.tx);
      }),
  }),

  dispatch: adminDispatch,

  numbers: adminNumbers,

  members: router({
    list: operatorQuery
      .meta(
        rest("GET", "/admin/clients/{id}/members", "platform:read", "List the members of a client", {
          description: "Those who belong to it now, newest first, each with a role.",
          faults: ["client_not_found", "cursor_invalid"],
        }),
      )
      .input(ListClientMembers)
      .output(MemberPage)
      .query(async ({ ctx, input: { id, ...input } }) => {
        await getClient(ctx.tx, id);
        return listMembers(ctx.tx, id, input, ctx.listKey);
      }),

    invite: operatorCommand
      .meta(
        rest("POST", "/admin/clients/{id}/invitations", "platform:write", "Invite somebody to a client", {
          description:
            "Answers a token, this once: nothing is sent by us. Whoever shows it joins with this role; an operator may invite an owner.",
          status: 201,
          faults: ["client_not_found"],
        }),
      )
      .input(InviteMember)
      .output(CreatedInvitation)
      .mutation(async ({ ctx, input: { id, ...input } }) => {
        await getClient(ctx.tx, id);
        return invite(ctx.tx, input, operator(ctx), ctx.hashKey, id);
      }),

    update: operatorClientCommand
      .meta(
        rest("PATCH", "/admin/clients/{id}/members/{memberId}", "platform:write", "Give a member another role", {
          description:
            "It holds from that person's next request on. API keys of theirs that may do more than the new role are revoked, and named in the answer. A client keeps at least one owner.",
          faults: ["client_not_found", "member_not_found", "owner_required"],
        }),
      )
      .input(UpdateClientMember)
      .output(ChangedMember)
      .mutation(({ ctx, input: { id, memberId, ...input } }) =>
        changeRole(ctx.tx, id, { ...input, id: memberId }, null),
      ),

    remove: operatorClientCommand
      .meta(
        rest("DELETE", "/admin/clients/{id}/members/{memberId}", "platform:write", "Remove a member", {
          status: 200,
          description:
            "That person is let in no more. API keys that they made are revoked with it, and named in the answer; invitations that they made are withdrawn. A client keeps at least one owner.",
          faults: ["client_not_found", "member_not_found", "owner_required"],
        }),
      )
      .input(RemoveClientMember)
      .output(RemovedMember)
      .mutation(({ ctx, input: { id, memberId, ...input } }) =>
        removeMember(ctx.tx, id, { ...input, id: memberId }, null),
      ),
  }),

  prices: router({
    list: operatorQuery
      .meta(
        rest("GET", "/admin/clients/{id}/prices", "platform:read", "List the prices that a client has of its own", {
          description:
            "Those made last come first. In force is the one with the latest `effectiveFrom` that has come; where it says `inherits`, the price book holds.",
          faults: ["client_not_found", "cursor_invalid"],
        }),
      )
      .input(ListPrices)
      .output(PricePage)
      .query(({ ctx, input }) => listPrices(ctx.tx, input, ctx.listKey)),

    set: operatorCommand
      .meta(
        rest("POST", "/admin/clients/{id}/prices", "platform:write", "Give a client a price of its own", {
          status: 201,
          description: "A new version: what has begun keeps the price that it began with.",
          faults: ["client_not_found"],
        }),
      )
      .input(SetPrice)
      .output(Price)
      .mutation(({ ctx, input }) => setPrice(ctx.tx, input)),

    drop: operatorCommand
      .meta(
        rest("DELETE", "/admin/clients/{id}/prices", "platform:write", "Have the price book hold for a client again", {
          description:
            "From now on; what has begun keeps the price that it began with. A price of the client's own that was set for a later time still comes into force then.",
          faults: ["client_not_found"],
        }),
      )
      .input(AdminClientId)
      .mutation(({ ctx, input }) => dropPrices(ctx.tx, input.id)),
  }),
});
