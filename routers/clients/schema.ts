import { z } from "zod";
import { KeyRef } from "../api-keys/schema.ts";
import { examples, Id, Metadata, Timestamp } from "../core/fields.ts";
import { PageInput, pageOf } from "../core/pagination.ts";

const fields = {
  name: z
    .string()
    .trim()
    .min(1)
    .max(100)
    .meta({ examples: ["Ada's bakery"] }),
  timezone: z
    .string()
    .max(64)
    .refine(isTimezone, "This is not a time zone; one looks like Europe/Berlin.")
    .meta({ description: "IANA name: what a day is for you.", examples: ["Europe/Berlin"] }),
  metadata: Metadata,
};

function isTimezone(name: string): boolean {
  try {
    return new Intl.DateTimeFormat("en", { timeZone: name }).resolvedOptions().timeZone !== "";
  } catch {
    return false;
  }
}

export const Client = z
  .object({
    id: Id("client", examples.client),
    ...fields,
    status: z.enum(["active", "suspended"]).meta({ examples: ["active"] }),
    suspendedReason: z
      .string()
      .nullable()
      .meta({ examples: [null] }),
    createdAt: Timestamp,
    updatedAt: Timestamp,
  })
  .meta({ id: "Client" });
export type Client = z.output<typeof Client>;
export const ClientPage = pageOf(Client);

export const UpdateClient = z.strictObject(z.object(fields).partial().shape);
export type UpdateClient = z.output<typeof UpdateClient>;

export const roleNames = ["owner", "admin", "member", "viewer"] as const;
export const Role = z
  .enum(roleNames)
  .meta({ description: "What each may do: GET /clients/current/roles.", examples: ["member"] });

export const RoleList = z.object({
  roles: z.array(
    z.object({
      name: Role,
      scopes: z.array(z.string()).meta({
        description: "`*` stands for all, `*:read` for all that read.",
        examples: [["*:read", "calls:write"]],
      }),
    }),
  ),
});

export const Member = z
  .object({
    id: Id("membership", examples.member),
    userId: Id("user", examples.user),
    email: z
      .string()
      .nullable()
      .meta({ examples: ["ada@example.com"] }),
    name: z
      .string()
      .nullable()
      .meta({ examples: ["Ada"] }),
    role: Role,
    createdAt: Timestamp,
  })
  .meta({ id: "Member" });
export type Member = z.output<typeof Member>;
export const MemberPage = pageOf(Member);

export const ListMembers = z.strictObject({ ...PageInput, role: Role.optional() });
export type ListMembers = z.output<typeof ListMembers>;
export const MemberId = z.strictObject({ id: Id("membership", examples.member) });

export const keepApiKeys = z
  .boolean()
  .default(false)
  .meta({
    description:
      "Keys that this person made, or that keys of theirs made, go on working. Otherwise those that may do more than the person now are revoked.",
    redact: "none",
    examples: [false],
  });
export const UpdateMember = z.strictObject({ ...MemberId.shape, role: Role, keepApiKeys });
export type UpdateMember = z.output<typeof UpdateMember>;
export const RemoveMember = z.strictObject({ ...MemberId.shape, keepApiKeys });
export type RemoveMember = z.output<typeof RemoveMember>;

/** What becomes of what a person made, when they leave or get another role. */
const leftBehind = {
  revokedApiKeys: z.array(KeyRef).meta({ description: "Keys that were revoked with it." }),
  keptApiKeys: z.array(KeyRef).meta({ description: "Keys of theirs that still work." }),
  withdrawnInvitations: z.int().meta({
    description:
      "How many open invitations were withdrawn: those that the person made, and those to the person's address.",
    examples: [0],
  }),
};
export const ChangedMember = Member.extend(leftBehind).meta({ id: "ChangedMember" });
export type ChangedMember = z.output<typeof ChangedMember>;
export const RemovedMember = z
  .object({ id: Member.shape.id, userId: Member.shape.userId, ...leftBehind })
  .meta({ id: "RemovedMember" });
export type RemovedMember = z.output<typeof RemovedMember>;

const email = z
  .email()
  .max(254)
  .transform((text) => text.toLowerCase())
  .meta({ redact: "personal", examples: ["grace@example.com"] });

export const Invite = z.strictObject({
  email,
  role: Role,
  expiresInHours: z
    .int()
    .min(1)
    .max(720)
    .default(168)
    .meta({ examples: [168] }),
});
export type Invite = z.output<typeof Invite>;

const invitation = {
  id: Id("invitation", examples.invitation),
  email: z.string().meta({ examples: ["grace@example.com"] }),
  role: Role,
  status: z.enum(["open", "accepted", "withdrawn", "expired"]).meta({ examples: ["open"] }),
  invitedBy: z.string().meta({ examples: [examples.user] }),
  expiresAt: Timestamp,
  createdAt: Timestamp,
};
export const Invitation = z.object(invitation).meta({ id: "Invitation" });
export type Invitation = z.output<typeof Invitation>;
export const InvitationPage = pageOf(Invitation);
export const CreatedInvitation = z
  .object({
    ...invitation,
    token: z.string().meta({
      description: "Whoever shows it joins: send it to the person, by a way of your own. Shown this once.",
      redact: "secret",
      examples: ["pbi_3kTzQ…"],
    }),
  })
  .meta({ id: "CreatedInvitation" });
export type CreatedInvitation = z.output<typeof CreatedInvitation>;

export const ListInvitations = z.strictObject({ ...PageInput });
export type ListInvitations = z.output<typeof ListInvitations>;
export const InvitationId = z.strictObject({ id: Id("invitation", examples.invitation) });

export const AcceptInvitation = z.strictObject({
  token: z
    .string()
    .regex(/^pbi_[A-Za-z0-9_-]{43}$/, "This is not the token of an invitation.")
    .meta({
      description: "What the answer to the invitation showed once.",
      redact: "secret",
      examples: ["pbi_3kTzQyq0X9n1o2Z7d5cVb8mLw4sRtUe6fGhJkPaSxDc"],
    }),
});
export const Joined = z
  .object({ clientId: Id("client", examples.client), userId: Id("user", examples.user), role: Role })
  .meta({ id: "Joined" });
export type Joined = z.output<typeof Joined>;
