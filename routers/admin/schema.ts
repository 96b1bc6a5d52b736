import { z } from "zod";
import { Client, keepApiKeys, Role } from "../clients/schema.ts";
import { examples, Id, Metadata, Timestamp } from "../core/fields.ts";
import { PageInput, pageOf } from "../core/pagination.ts";

const clientId = Id("client", examples.client);
const email = z
  .email()
  .max(254)
  .transform((text) => text.toLowerCase())
  .meta({ redact: "personal", examples: ["ada@example.com"] });

export const CreateClient = z.strictObject({
  name: Client.shape.name,
  timezone: Client.shape.timezone.default("UTC"),
  metadata: Metadata.default({}),
  ownerEmail: email.optional().meta({
    description: "Who is invited as the first owner; the answer has the token.",
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
      description: "Of the first owner's invitation. Shown this once.",
      redact: "secret",
      examples: ["pbi_3kTzQ…"],
    }),
}).meta({ id: "CreatedClient" });
export type CreatedClient = z.output<typeof CreatedClient>;

export const ListClients = z.strictObject({
  ...PageInput,
  status: Client.shape.status.optional().meta({ description: "Those that are let in, or those that are not." }),
  search: z
    .string()
    .trim()
    .min(1)
    .max(100)
    .optional()
    .meta({ description: "A part of the name.", examples: ["bakery"] }),
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
    .meta({ description: "The client reads it.", examples: ["The invoice of October is open."] }),
});
export type SuspendClient = z.output<typeof SuspendClient>;

export const ListClientMembers = z.strictObject({ ...PageInput, id: clientId, role: Role.optional() });
const memberId = Id("membership", examples.member).meta({
  description: "The membership's id, not the person's.",
  examples: [examples.member],
});
export const RemoveClientMember = z.strictObject({ id: clientId, memberId, keepApiKeys });
export const UpdateClientMember = z.strictObject({ id: clientId, memberId, role: Role, keepApiKeys });
export const InviteMember = z.strictObject({
  id: clientId,
  email,
  role: Role,
  expiresInHours: z
    .int()
    .min(1)
    .max(720)
    .default(168)
    .meta({ examples: [168] }),
});

/** A day's bill at the highest price still fits into a balance. */
const Micros = z
  .int()
  .min(0)
  .max(1e12)
  .meta({ description: "Millionths of a credit.", examples: [9000000] });

const price = {
  creditUsdMicros: Micros.meta({
    description: "What one credit costs to buy, in millionths of a US dollar.",
    examples: [10000],
  }),
  callMicrosPerMinute: Micros,
  telephoneMicrosPerMinute: Micros.meta({ examples: [1500000] }),
  voiceCloneMicros: Micros.meta({ description: "Of one voice trained from samples.", examples: [50000000] }),
  roundingSeconds: z
    .int()
    .min(1)
    .max(60)
    .meta({ description: "Durations are rounded up to this.", examples: [6] }),
};

export const Price = z
  .object({
    id: Id("price", examples.price),
    clientId: clientId.nullable(),
    ...price,
    inherits: z.boolean().meta({ description: "From here on the price book holds again.", examples: [false] }),
    effectiveFrom: Timestamp,
    createdAt: Timestamp,
  })
  .meta({ id: "Price" });
export type Price = z.output<typeof Price>;
export const PricePage = pageOf(Price);

export const GiveCredits = z.strictObject({
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
    .meta({ description: "The client reads it in its ledger.", examples: ["Paid by invoice 2026-0117."] }),
});

export const ListPrices = z.strictObject({ ...PageInput, id: clientId });
export type ListPrices = z.output<typeof ListPrices>;
export const SetPrice = z.strictObject({
  id: clientId,
  ...z.object(price).partial().shape,
  effectiveFrom: z.iso
    .datetime()
    .optional()
    .meta({ description: "At once, if left out; never in the past.", examples: ["2030-01-01T00:00:00.000Z"] }),
});
export type SetPrice = z.output<typeof SetPrice>;
