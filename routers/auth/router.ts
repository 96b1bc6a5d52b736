import { router, selfQuery } from "../core/procedures.ts";
import { rest } from "../core/rest-metadata.ts";
import { Me, OwnClients } from "./schema.ts";
import { describeCaller, listOwnClients } from "./service.ts";

export const auth = router({
  me: selfQuery
    .meta(
      rest("GET", "/auth/me", null, "Who am I", {
        description:
          "The person or the API key that is calling, whatever the client. A key's scopes are among it; a person's follow from the role in each client.",
      }),
    )
    .output(Me)
    .query(({ ctx }) => describeCaller(ctx.db, ctx.caller)),

  clients: selfQuery
    .meta(
      rest("GET", "/auth/clients", null, "List the clients that I may act for", {
        description:
          "For a person those that both the token and an active membership name, with the role in each; for an API key the one that it belongs to.",
      }),
    )
    .output(OwnClients)
    .query(({ ctx }) => listOwnClients(ctx.db, ctx.caller)),
});
