import { router, selfQuery } from "../core/procedures.ts";
import { rest } from "../core/rest-metadata.ts";
import { Me, OwnClients } from "./schema.ts";
import { describeCaller, listOwnClients } from "./service.ts";

export const auth = router({
  me: selfQuery
    .meta(
      rest("GET", "/auth/me", null, "Get the caller", {
        description:
          "The user or API key of this request, for any client. Includes the scopes of an API key. The scopes of a user come from their role in each client.",
      }),
    )
    .output(Me)
    .query(({ ctx }) => describeCaller(ctx.db, ctx.caller)),

  clients: selfQuery
    .meta(
      rest("GET", "/auth/clients", null, "List the clients of the caller", {
        description:
          "For a user: the clients in both the token and the active memberships, with the role in each. For an API key: its client.",
      }),
    )
    .output(OwnClients)
    .query(({ ctx }) => listOwnClients(ctx.db, ctx.caller)),
});
