import { z } from "zod";
import { personFields } from "../clients/schema.ts";
import { examples, Id } from "../core/fields.ts";

export const Me = z
  .object({
    kind: z.enum(["user", "key"]).meta({ description: "`user`: a person with a user token. `key`: an API key." }),
    id: z.string().meta({ examples: [examples.user] }),
    ...personFields,
    scopes: z
      .array(z.string())
      .nullable()
      .meta({
        description: "The scopes of an API key; null for a user, whose scopes depend on the client.",
        examples: [null],
      }),
  })
  .meta({ id: "Me" });
export type Me = z.output<typeof Me>;

export const OwnClients = z.object({
  clients: z.array(
    z.object({
      id: Id("client", examples.client),
      name: z.string().meta({ examples: ["Ada's bakery"] }),
      role: z
        .string()
        .nullable()
        .meta({ description: "null for an API key, which has scopes instead of a role.", examples: ["owner"] }),
      status: z.enum(["active", "suspended"]),
    }),
  ),
});
export type OwnClients = z.output<typeof OwnClients>;
