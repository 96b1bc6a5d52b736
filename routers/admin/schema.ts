import { z } from "zod";
import { Client, disableWebhooks, Invite, keepApiKeys, Role } from "../clients/schema.ts";
import { examples, Id, Metadata, Timestamp } from "../core/fields.ts";
import { PageInput, pageOf } from "../core/pagination.ts";

const clientId = Id("client", examples.client);

export const CreateClient = z.strictObject({
  name: Client.shape.name,
  timezone: Client.shape.timezone.default("UTC"),
  metadata: Metadata.default({}),
  ownerEmail: Invite.shape.email.optional().meta({
    description: "The person to invite as the first owner. The response contains the invitation token.",
    redact: "personal",
    examples: ["ada@example.com"],
  }),
});
export type CreateClient = z.output<typeof CreateClient>;

export const CreatedClient = Client.extend({
  invitationToken: z
    .string()
    .nullable()
    .meta({
      description: "The token of the first owner's invitation. It is not shown again.",
      redact: "secret",
      examples: ["pbi_3kTzQ…"],
    }),
}).meta({ id: "CreatedClient" });
export type CreatedClient = z.output<typeof CreatedClient>;

export const ListClients = z.strictObject({
  ...PageInput,
  status: Client.shape.status.optional().meta({ description: "Only clients with this status." }),
  search: z
    .string()
    .trim()
    .min(1)
    .max(100)
    .optional()
    .meta({ description: "Text that the name contains.", examples: ["bakery"] }),
});
export type ListClients = z.output<typeof ListClients>;
export const AdminClientId = z.strictObject({ id: clientId });
export const SuspendClient = z.strictObject({
  id: clientId,
  reason: z
    .string()
    .trim()
    .min(1)
    .max(500)
    .meta({ description: "The client can read it.", examples: ["The invoice of October is open."] }),
});
export type SuspendClient = z.output<typeof SuspendClient>;

export const ListClientMembers = z.strictObject({ ...PageInput, id: clientId, role: Role.optional() });
const memberId = Id("membership", examples.member).meta({
  description: "The id of the membership, not of the person.",
  examples: [examples.member],
});
export const RemoveClientMember = z.strictObject({ id: clientId, memberId, keepApiKeys, disableWebhooks });
export const UpdateClientMember = z.strictObject({ id: clientId, memberId, role: Role, keepApiKeys, disableWebhooks });
export const InviteMember = z.strictObject({ id: clientId, ...Invite.shape });

/** A day's bill at the highest price still fits into a balance. */
const Micros = z
  .int()
  .min(0)
  .max(1e12)
  .meta({ description: "Millionths of a credit.", examples: [9000000] });

const price = {
  creditUsdMicros: Micros.meta({
    description: "The price of one credit in millionths of a US dollar.",
    examples: [10000],
  }),
  callMicrosPerMinute: Micros,
  telephoneMicrosPerMinute: Micros.meta({ examples: [1500000] }),
  voiceCloneMicros: Micros.meta({ description: "The price of one voice trained from samples.", examples: [50000000] }),
  roundingSeconds: z
    .int()
    .min(1)
    .max(60)
    .meta({ description: "Durations are rounded up to a multiple of this.", examples: [6] }),
};

export const Price = z
  .object({
    id: Id("price", examples.price),
    clientId: clientId.nullable(),
    ...price,
    inherits: z.boolean().meta({ description: "true: the default prices apply from here on.", examples: [false] }),
    effectiveFrom: Timestamp,
    createdAt: Timestamp,
  })
  .meta({ id: "Price" });
export type Price = z.output<typeof Price>;
export const PricePage = pageOf(Price);

export const GrantCredits = z.strictObject({
  id: clientId,
  amountMicros: z
    .int()
    .min(1)
    .max(1e15)
    .meta({ description: "Millionths of a credit.", examples: [250000000] }),
  reason: z
    .string()
    .trim()
    .min(1)
    .max(500)
    .meta({ description: "The client can read it in its ledger.", examples: ["Paid by invoice 2026-0117."] }),
});

export const ListPrices = z.strictObject({ ...PageInput, id: clientId });
export type ListPrices = z.output<typeof ListPrices>;
export const SetPrice = z.strictObject({
  id: clientId,
  ...z.object(price).partial().shape,
  effectiveFrom: z.iso
    .datetime()
    .optional()
    .meta({ description: "Default: now. It must not be in the past.", examples: ["2030-01-01T00:00:00.000Z"] }),
});
export type SetPrice = z.output<typeof SetPrice>;
