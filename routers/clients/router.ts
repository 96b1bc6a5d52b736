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
      rest("GET", "/clients/current", "clients:read", "Get the client that you act for", {
        description:
          "The one that the API key belongs to; for a person the one that `X-Client-Id` names, or the only one.",
      }),
    )
    .output(Client)
    .query(({ ctx }) => currentClientOf(ctx.tx)),

  update: command
    .meta(
      rest("PATCH", "/clients/current", "clients:write", "Change the client that you act for", {
        description: "Its name, time zone and metadata. What is left out stays; `metadata` is replaced whole.",
      }),
    )
    .input(UpdateClient)
    .output(Client)
    .mutation(({ ctx, input }) => updateClient(ctx.tx, input)),

  roles: query
    .meta(
      rest("GET", "/clients/current/roles", "members:read", "List the roles and what each may do", {
        description: "All roles there are, each with its scopes.",
      }),
    )
    .output(RoleList)
    .query(({ ctx }) => listRoles(ctx.tx)),

  members: router({
    list: query
      .meta(
        rest("GET", "/clients/current/members", "members:read", "List members", {
          description: "Those who belong to the client now, newest first, each with a role.",
          faults: ["cursor_invalid"],
        }),
      )
      .input(ListMembers)
      .output(MemberPage)
      .query(({ ctx, input }) => listMembers(ctx.tx, ctx.principal.clientId, input, ctx.listKey)),

    get: query
      .meta(
        rest("GET", "/clients/current/members/{id}", "members:read", "Get a member", {
          description: "One person with a role. The id is the membership's, not the person's.",
          faults: ["member_not_found"],
        }),
      )
      .input(MemberId)
      .output(Member)
      .query(({ ctx, input }) => getMember(ctx.tx, ctx.principal.clientId, input.id)),

    update: command
      .meta(
        rest("PATCH", "/clients/current/members/{id}", "members:write", "Give a member another role", {
          description:
            "It holds from that person's next request on. API keys of theirs that may do more than the new role are revoked, and named in the answer. Only an owner makes or unmakes an owner.",
          faults: ["member_not_found", "owner_required"],
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
            "API keys that this person made are revoked with it, and named in the answer; invitations that they made are withdrawn.",
          faults: ["member_not_found", "owner_required"],
        }),
      )
      .input(RemoveMember)
      .output(RemovedMember)
      .mutation(({ ctx, input }) => removeMember(ctx.tx, ctx.principal.clientId, input, ctx.principal)),
  }),

  invitations: router({
    create: command
      .meta(
        rest("POST", "/clients/current/invitations", "members:write", "Invite somebody", {
          description: "Answers a token, this once: nothing is sent by us.",
        }),
      )
      .input(Invite)
      .output(CreatedInvitation)
      .mutation(({ ctx, input }) => invite(ctx.tx, input, ctx.principal, ctx.hashKey)),

    list: query
      .meta(
        rest("GET", "/clients/current/invitations", "members:read", "List invitations", {
          description:
            "Newest first, also those that were accepted or withdrawn or have run out. Their tokens are not shown again.",
          faults: ["cursor_invalid"],
        }),
      )
      .input(ListInvitations)
      .output(InvitationPage)
      .query(({ ctx, input }) => listInvitations(ctx.tx, input, ctx.listKey)),

    withdraw: command
      .meta(
        rest("DELETE", "/clients/current/invitations/{id}", "members:write", "Withdraw an invitation", {
          description: "Its token lets nobody in any more. One that was accepted stays so: remove the member instead.",
          faults: ["invitation_not_found"],
        }),
      )
      .input(InvitationId)
      .mutation(({ ctx, input }) => withdrawInvitation(ctx.tx, input.id)),

    accept: selfCommand
      .meta(
        rest("POST", "/invitations/{token}/accept", null, "Accept an invitation", {
          description:
            "With a person's own token. Afterwards the identity provider must name the client in that person's tokens.",
          faults: ["invitation_not_found", "invitation_forbidden", "member_exists"],
        }),
      )
      .input(AcceptInvitation)
      .output(Joined)
      .mutation(({ ctx, input }) => acceptInvitation(ctx.tx, ctx.hashKey(input.token), ctx.person)),
  }),
});
