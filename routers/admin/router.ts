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
import { adminDeliveries } from "./deliveries/router.ts";
import {
  AdminClientId,
  CreateClient,
  CreatedClient,
  GrantCredits,
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
  getClient,
  listClients,
  listPrices,
  removePrices,
  resumeClient,
  setPrice,
  suspendClient,
} from "./service.ts";

const operator = (ctx: { principal: { id: string } }) => ({ id: ctx.principal.id, kind: "operator" as const });

/** Endpoints for operators of the installation. */
export const admin = router({
  ingress: adminIngress,
  setApart: adminSetApart,

  clients: router({
    create: operatorCommand
      .meta(
        rest("POST", "/admin/clients", "platform:write", "Create a client", {
          description:
            "Creates a client without members. With `ownerEmail` it also invites the first owner: the response contains the invitation token, which is not shown again. We send no email.",
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
          description: "All clients of the installation, newest first, including suspended ones.",
          errors: ["cursor_invalid"],
        }),
      )
      .input(ListClients)
      .output(ClientPage)
      .query(({ ctx, input }) => listClients(ctx.tx, input, ctx.listKey)),

    get: operatorQuery
      .meta(
        rest("GET", "/admin/clients/{id}", "platform:read", "Get a client", {
          description: "Includes its name, time zone, metadata, and its status with the reason of a suspension.",
          errors: ["client_not_found"],
        }),
      )
      .input(AdminClientId)
      .output(Client)
      .query(({ ctx, input }) => getClient(ctx.tx, input.id)),

    suspend: operatorCommand
      .meta(
        rest("POST", "/admin/clients/{id}/suspend", "platform:write", "Suspend a client", {
          description:
            "Requests with its keys and tokens return 403 immediately. Queued work waits; running provider commands are completed.",
          errors: ["client_not_found"],
        }),
      )
      .input(SuspendClient)
      .output(Client)
      .mutation(({ ctx, input }) => suspendClient(ctx.tx, input)),

    resume: operatorCommand
      .meta(
        rest("POST", "/admin/clients/{id}/resume", "platform:write", "Resume a client", {
          description:
            "Its keys and tokens work again, and queued work continues. For a client that is not suspended nothing changes.",
          errors: ["client_not_found"],
        }),
      )
      .input(AdminClientId)
      .output(Client)
      .mutation(({ ctx, input }) => resumeClient(ctx.tx, input.id)),
  }),

  credits: router({
    grant: operatorClientCommand
      .meta(
        rest("POST", "/admin/clients/{id}/credits", "platform:write", "Give a client credits", {
          description:
            "Adds an entry to its ledger, with the reason, and emits `credits.granted`. Send an Idempotency-Key, so that a retried request gives credits once. Granted credits cannot be taken back.",
          errors: ["client_not_found"],
        }),
      )
      .input(GrantCredits)
      .output(Balance)
      .mutation(async ({ ctx, input: { amountMicros, reason } }) => {
        // A new id, not the request id, which the caller chooses: two intended requests grant twice.
        await grantCredits(ctx.tx, newId("grant"), amountMicros, reason);
        return balancesOf(ctx.tx);
      }),
  }),

  deliveries: adminDeliveries,

  numbers: adminNumbers,

  members: router({
    list: operatorQuery
      .meta(
        rest("GET", "/admin/clients/{id}/members", "platform:read", "List the members of a client", {
          description: "Current members, newest first, each with a role.",
          errors: ["client_not_found", "cursor_invalid"],
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
        rest("POST", "/admin/clients/{id}/invitations", "platform:write", "Create an invitation to a client", {
          description:
            "Returns a token, which is not shown again. We send no email. A person who accepts with the token joins with this role. An operator can invite an owner.",
          status: 201,
          errors: ["client_not_found"],
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
        rest("PATCH", "/admin/clients/{id}/members/{memberId}", "platform:write", "Change the role of a member", {
          description:
            "Applies from the person's next request. Their API keys with more scopes than the new role are revoked and listed in the response. Their webhook endpoints are listed too; `disableWebhooks` disables them if the new role cannot create any. A client keeps at least one owner.",
          errors: ["client_not_found", "member_not_found", "owner_required"],
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
            "The person loses access. API keys that they created are revoked and listed in the response; invitations that they created are withdrawn. Their webhook endpoints are listed too, and continue to receive events unless `disableWebhooks` is true. A client keeps at least one owner.",
          errors: ["client_not_found", "member_not_found", "owner_required"],
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
        rest("GET", "/admin/clients/{id}/prices", "platform:read", "List the prices of a client", {
          description:
            "The client's own prices, newest first. The active price has the latest `effectiveFrom` in the past. If its `inherits` is true, the default prices apply.",
          errors: ["client_not_found", "cursor_invalid"],
        }),
      )
      .input(ListPrices)
      .output(PricePage)
      .query(({ ctx, input }) => listPrices(ctx.tx, input, ctx.listKey)),

    set: operatorCommand
      .meta(
        rest("POST", "/admin/clients/{id}/prices", "platform:write", "Set the price of a client", {
          status: 201,
          description: "Creates a new version. Calls that have started keep their price.",
          errors: ["client_not_found"],
        }),
      )
      .input(SetPrice)
      .output(Price)
      .mutation(({ ctx, input }) => setPrice(ctx.tx, input)),

    remove: operatorCommand
      .meta(
        rest("DELETE", "/admin/clients/{id}/prices", "platform:write", "Reset a client to the default prices", {
          description:
            "Applies from now on. Calls that have started keep their price. A price that was set for a later time still applies from that time.",
          errors: ["client_not_found"],
        }),
      )
      .input(AdminClientId)
      .mutation(({ ctx, input }) => removePrices(ctx.tx, input.id)),
  }),
});
