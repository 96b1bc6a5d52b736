import { z } from "zod";
import { examples, Id, Timestamp } from "../core/fields.ts";
import { PageInput, pageOf } from "../core/pagination.ts";
import { Route, RoutePattern, routeStatuses } from "./schema.ts";

const clientId = Id("client", examples.client);
const numberId = Id("number", examples.number);

const fields = {
  maxRoutes: z
    .int()
    .min(1)
    .max(20)
    .meta({
      description: "How many matching routes of the client can answer. The provider account allows 20 in total.",
      examples: [5],
    }),
  note: z
    .string()
    .trim()
    .max(500)
    .nullable()
    .meta({ description: "A note for operators.", examples: ["Ordered with contract 2026-0117."] }),
};

export const AssignedNumber = z
  .object({
    id: numberId,
    clientId,
    pattern: z.string().meta({ examples: ["+49301234*"] }),
    ...fields,
    assignedBy: z.string().meta({ examples: ["auth0|operator"] }),
    createdAt: Timestamp,
  })
  .meta({ id: "AssignedNumber" });
export type AssignedNumber = z.output<typeof AssignedNumber>;
export const NumberPage = pageOf(AssignedNumber);

export const AssignNumber = z.strictObject({
  clientId,
  pattern: RoutePattern.meta({
    description: "A number, or the user part of a SIP address. `*` at the end matches any rest.",
    examples: ["+49301234*"],
  }),
  maxRoutes: fields.maxRoutes.default(5),
  note: fields.note.default(null),
});
export type AssignNumber = z.output<typeof AssignNumber>;

export const ReassignNumber = z.strictObject({
  id: numberId,
  clientId: clientId.optional().meta({ description: "The new client." }),
  maxRoutes: fields.maxRoutes.optional(),
  note: fields.note.optional(),
});
export type ReassignNumber = z.output<typeof ReassignNumber>;

export const NumberId = z.strictObject({ id: numberId });
export const ListNumbers = z.strictObject({
  ...PageInput,
  clientId: clientId.optional().meta({ description: "Only those of this client." }),
  pattern: z
    .string()
    .min(1)
    .max(61)
    .optional()
    .meta({ description: "Only patterns with this prefix.", examples: ["+4930"] }),
});
export type ListNumbers = z.output<typeof ListNumbers>;

export const AdminRoute = Route.extend({ clientId }).meta({ id: "AdminInboundRoute" });
export type AdminRoute = z.output<typeof AdminRoute>;
export const AdminRoutePage = pageOf(AdminRoute);
export const ListAllRoutes = z.strictObject({
  ...PageInput,
  clientId: clientId.optional().meta({ description: "Only those of this client." }),
  status: z
    .enum(routeStatuses)
    .optional()
    .meta({
      description: "Only routes with this status. `waiting`: routes that request a number.",
      examples: ["waiting"],
    }),
});
export type ListAllRoutes = z.output<typeof ListAllRoutes>;
