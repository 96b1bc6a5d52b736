import { z } from "zod";
import { examples, Id, Timestamp } from "../core/fields.ts";
import { PageInput, pageOf } from "../core/pagination.ts";
import { Route, RoutePattern, routeStates } from "./schema.ts";

const clientId = Id("client", examples.client);
const numberId = Id("number", examples.number);

const fields = {
  maxRoutes: z
    .int()
    .min(1)
    .max(20)
    .meta({
      description: "So many routes of the client answer within it. The provider takes 20 in all.",
      examples: [5],
    }),
  note: z
    .string()
    .trim()
    .max(500)
    .nullable()
    .meta({ description: "For operators.", examples: ["Ordered with contract 2026-0117."] }),
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
    description: "A number, or the user of a SIP address; `*` at the end stands for the rest.",
    examples: ["+49301234*"],
  }),
  maxRoutes: fields.maxRoutes.default(5),
  note: fields.note.default(null),
});
export type AssignNumber = z.output<typeof AssignNumber>;

export const ReassignNumber = z.strictObject({
  id: numberId,
  clientId: clientId.optional().meta({ description: "Whose it is from now on." }),
  maxRoutes: fields.maxRoutes.optional(),
  note: fields.note.optional(),
});
export type ReassignNumber = z.output<typeof ReassignNumber>;

export const NumberId = z.strictObject({ id: numberId });
export const ListNumbers = z.strictObject({
  ...PageInput,
  clientId: clientId.optional().meta({ description: "Those of this client." }),
  pattern: z
    .string()
    .min(1)
    .max(61)
    .optional()
    .meta({ description: "How the pattern begins.", examples: ["+4930"] }),
});
export type ListNumbers = z.output<typeof ListNumbers>;

export const AdminRoute = Route.extend({ clientId }).meta({ id: "AdminInboundRoute" });
export type AdminRoute = z.output<typeof AdminRoute>;
export const AdminRoutePage = pageOf(AdminRoute);
export const ListAllRoutes = z.strictObject({
  ...PageInput,
  clientId: clientId.optional().meta({ description: "Those of this client." }),
  status: z
    .enum(routeStates)
    .optional()
    .meta({ description: "`waiting`: those that ask for a number.", examples: ["waiting"] }),
});
export type ListAllRoutes = z.output<typeof ListAllRoutes>;
