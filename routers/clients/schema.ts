import { z } from "zod";
import { KeyRef } from "../api-keys/schema.ts";
import { examples, Id, Metadata, Timestamp } from "../core/fields.ts";
import { PageInput, pageOf } from "../core/pagination.ts";
import { EndpointRef } from "../webhooks/schema.ts";

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
    .refine(isTimezone, "Write an IANA time zone, such as Europe/Berlin.")
    .meta({ description: "The IANA time zone for days in reports and schedules.", examples: ["Europe/Berlin"] }),
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
    statusReason: z
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
  .meta({ description: "A role is a set of scopes: see GET /clients/current/roles.", examples: ["member"] });

export const RoleList = z.object({
  roles: z.array(
    z.object({
      name: Role,
      scopes: z.array(z.string()).meta({
        description: "`*` means all scopes, `*:read` all read scopes.",
        examples: [["*:read", "calls:write"]],
      }),
    }),
  ),
});

/** How a person is shown. */
export const personFields = {
  email: z
    .string()
    .nullable()
    .meta({ examples: ["ada@example.com"] }),
  name: z
    .string()
    .nullable()
    .meta({ examples: ["Ada"] }),
};

export const Member = z
  .object({
    id: Id("membership", examples.member),
    userId: Id("user", examples.user),
    ...personFields,
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
      "true: API keys that this person created, directly or with their keys, keep working. false: those with more scopes than the person now has are revoked.",
    redact: "none",
    examples: [false],
  });
export const disableWebhooks = z
  .boolean()
  .default(false)
  .meta({
    description:
      "true: enabled webhook endpoints that this person created, directly or with their keys, are disabled, unless the person can still create endpoints. false: they continue to receive events.",
    examples: [false],
  });
export const UpdateMember = z.strictObject({ ...MemberId.shape, role: Role, keepApiKeys, disableWebhooks });
export type UpdateMember = z.output<typeof UpdateMember>;
export const RemoveMember = z.strictObject({ ...MemberId.shape, keepApiKeys, disableWebhooks });
export type RemoveMember = z.output<typeof RemoveMember>;

/** What happens to keys, webhook endpoints and invitations of a person who leaves or gets another role. */
const revocations = {
  revokedApiKeys: z.array(KeyRef).meta({ description: "API keys that were revoked." }),
  keptApiKeys: z.array(KeyRef).meta({ description: "API keys of this person that still work." }),
  disabledWebhooks: z.array(EndpointRef).meta({ description: "Webhook endpoints that were disabled." }),
  keptWebhooks: z
    .array(EndpointRef)
    .meta({ description: "Webhook endpoints of this person that continue to receive events." }),
  withdrawnInvitations: z.int().meta({
    description:
      "The number of withdrawn invitations: those that the person created, and those to the person's email address.",
    examples: [0],
  }),
};
export const ChangedMember = Member.extend(revocations).meta({ id: "ChangedMember" });
export type ChangedMember = z.output<typeof ChangedMember>;
export const RemovedMember = z
  .object({ id: Member.shape.id, userId: Member.shape.userId, ...revocations })
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
      description:
        "Anyone with this token can accept the invitation. Send it to the person yourself. It is not shown again.",
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
    .regex(/^pbi_[A-Za-z0-9_-]{43}$/, "This is not an invitation token. It starts with `pbi_`.")
    .meta({
      description: "The token from the response that created the invitation.",
      redact: "secret",
      examples: ["pbi_3kTzQyq0X9n1o2Z7d5cVb8mLw4sRtUe6fGhJkPaSxDc"],
    }),
});
export const Joined = z
  .object({ clientId: Id("client", examples.client), userId: Id("user", examples.user), role: Role })
  .meta({ id: "Joined" });
export type Joined = z.output<typeof Joined>;
