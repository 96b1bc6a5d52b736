import { rest } from "../rest.ts";
import { ownQuery, router } from "../trpc.ts";
import { Me, OwnClients } from "./schema.ts";
import { describeCaller, listOwnClients } from "./service.ts";

export const auth = router({
  me: ownQuery
    .meta(rest("GET", "/auth/me", null, "Who am I", { wall: "user" }))
    .output(Me)
    .query(({ ctx }) => describeCaller(ctx.db, ctx.caller)),

  clients: ownQuery
    .meta(rest("GET", "/auth/clients", null, "List the clients that I may act for", { wall: "user" }))
    .output(OwnClients)
    .query(({ ctx }) => listOwnClients(ctx.db, ctx.caller)),
});
