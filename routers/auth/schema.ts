import { z } from "zod";
import { examples, Id } from "../core/fields.ts";

export const Me = z
  .object({
    kind: z.enum(["user", "key"]).meta({ description: "A person with a token, or an API key." }),
    id: z.string().meta({ examples: [examples.user] }),
    email: z
      .string()
      .nullable()
      .meta({ examples: ["ada@example.com"] }),
    name: z
      .string()
      .nullable()
      .meta({ examples: ["Ada"] }),
    scopes: z
      .array(z.string())
      .nullable()
      .meta({ description: "Of a key. A person's depend on the client.", examples: [null] }),
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
        .meta({ description: "null for a key: it has scopes instead.", examples: ["owner"] }),
      status: z.enum(["active", "suspended"]),
    }),
  ),
});
export type OwnClients = z.output<typeof OwnClients>;
