import { z } from "zod";
import { examples, Id, Timestamp } from "../core/fields.ts";
import { PageInput, pageOf } from "../core/pagination.ts";

const example = "sap_01m82knxfbfrssk0x3en012rbf";
const id = Id("setApart", example);
const loop = z
  .string()
  .min(1)
  .max(60)
  .meta({ description: "The system loop that skips the row.", examples: ["audit.chain"] });

export const SetApartId = z.strictObject({ id });
export const ListSetApart = z.strictObject({ ...PageInput, loop: loop.optional() });
export type ListSetApart = z.output<typeof ListSetApart>;

export const SetApartRow = z
  .object({
    id,
    loop,
    subject: z
      .string()
      .meta({ description: "The id of the row in its loop.", examples: ["aud_01m82knxfbfrssk0x3en012rbf"] }),
    clientId: Id("client", examples.client).nullable(),
    reason: z
      .string()
      .meta({ description: "The error message, at most 500 characters.", examples: ["Invalid time value"] }),
    createdAt: Timestamp,
  })
  .meta({ id: "SetApartRow" });
export type SetApartRow = z.output<typeof SetApartRow>;
export const SetApartPage = pageOf(SetApartRow);
