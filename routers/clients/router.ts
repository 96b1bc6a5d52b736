import { command, query, router, selfCommand } from "../core/procedures.ts";
import { rest } from "../core/rest-metadata.ts";
import { acceptInvitation, invite, listInvitations, withdrawInvitation } from "./invitations.ts";
import { changeRole, getMember, listMembers, removeMember } from "./members.ts";
import {
  AcceptInvitation,
  ChangedMember,
  Client,
  CreatedInvitation,
  InvitationId,
  InvitationPage,
  Invite,
  Joined,
  ListInvitations,
  ListMembers,
  Member,
  MemberId,
  MemberPage,
  RemovedMember,
  RemoveMember,
  RoleList,
  UpdateClient,
  UpdateMember,
} from "./schema.ts";
import { currentClientOf, listRoles, updateClient } from "./service.ts";

export const clients = router({
  current: query
    .meta(
      rest("GET", "/clients/current", "clients:read", "Get the current client", {
        description:
          "With an API key: the client of the key. With a user token: the client in `X-Client-Id`, or the user's only client.",
      }),
    )
    .output(Client)
    .query(({ ctx }) => currentClientOf(ctx.tx)),

  update: command
    .meta(
      rest("PATCH", "/clients/current", "clients:write", "Update the current client", {
        description: "Omitted fields keep their value; `metadata` replaces all metadata.",
      }),
    )
    .input(UpdateClient)
    .output(Client)
    .mutation(({ ctx, input }) => updateClient(ctx.tx, input)),

  roles: query
    .meta(
      rest("GET", "/clients/current/roles", "members:read", "List roles", {
        description: "All roles with their scopes.",
      }),
    )
    .output(RoleList)
    .query(({ ctx }) => listRoles(ctx.tx)),

  members: router({
    list: query
      .meta(
        rest("GET", "/clients/current/members", "members:read", "List members", {
          description: "Current members, newest first, each with a role.",
          errors: ["cursor_invalid"],
        }),
      )
      .input(ListMembers)
      .output(MemberPage)
      .query(({ ctx, input }) => listMembers(ctx.tx, ctx.principal.clientId, input, ctx.listKey)),

    get: query
      .meta(
        rest("GET", "/clients/current/members/{id}", "members:read", "Get a member", {
          description: "A person with their role. The id is that of the membership, not of the person.",
          errors: ["member_not_found"],
        }),
      )
      .input(MemberId)
      .output(Member)
      .query(({ ctx, input }) => getMember(ctx.tx, ctx.principal.clientId, input.id)),

    update: command
      .meta(
        rest("PATCH", "/clients/current/members/{id}", "members:write", "Change the role of a member", {
          description:
            "Applies from the person's next request. Their API keys with more scopes than the new role are revoked and listed in the response. Their webhook endpoints are listed too; `disableWebhooks` disables them if the new role cannot create any. Only an owner can add or remove an owner.",
          errors: ["member_not_found", "owner_required"],
        }),
      )
      .input(UpdateMember)
      .output(ChangedMember)
      .mutation(({ ctx, input }) => changeRole(ctx.tx, ctx.principal.clientId, input, ctx.principal)),

    remove: command
      .meta(
        rest("DELETE", "/clients/current/members/{id}", "members:write", "Remove a member", {
          status: 200,
          description:
            "The person loses access. API keys that they created are revoked and listed in the response; invitations that they created are withdrawn. Their webhook endpoints are listed too, and continue to receive events unless `disableWebhooks` is true.",
          errors: ["member_not_found", "owner_required"],
        }),
      )
      .input(RemoveMember)
      .output(RemovedMember)
      .mutation(({ ctx, input }) => removeMember(ctx.tx, ctx.principal.clientId, input, ctx.principal)),
  }),

  invitations: router({
    create: command
      .meta(
        rest("POST", "/clients/current/invitations", "members:write", "Create an invitation", {
          description: "Returns a token, which is not shown again. Send it to the person yourself: we send no email.",
        }),
      )
      .input(Invite)
      .output(CreatedInvitation)
      .mutation(({ ctx, input }) => invite(ctx.tx, input, ctx.principal, ctx.hashKey)),

    list: query
      .meta(
        rest("GET", "/clients/current/invitations", "members:read", "List invitations", {
          description: "Newest first, including accepted, withdrawn and expired ones, without their tokens.",
          errors: ["cursor_invalid"],
        }),
      )
      .input(ListInvitations)
      .output(InvitationPage)
      .query(({ ctx, input }) => listInvitations(ctx.tx, input, ctx.listKey)),

    withdraw: command
      .meta(
        rest("DELETE", "/clients/current/invitations/{id}", "members:write", "Withdraw an invitation", {
          description: "The token stops working. To undo an accepted invitation, remove the member.",
          errors: ["invitation_not_found"],
        }),
      )
      .input(InvitationId)
      .mutation(({ ctx, input }) => withdrawInvitation(ctx.tx, input.id)),

    accept: selfCommand
      .meta(
        rest("POST", "/invitations/{token}/accept", null, "Accept an invitation", {
          description:
            "Requires a user token. To give the person access, your identity provider must then add the client to the person's tokens.",
          errors: ["invitation_not_found", "invitation_forbidden", "member_exists"],
        }),
      )
      .input(AcceptInvitation)
      .output(Joined)
      .mutation(({ ctx, input }) => acceptInvitation(ctx.tx, ctx.hashKey(input.token), ctx.person)),
  }),
});
