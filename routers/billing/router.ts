import { query, router } from "../core/procedures.ts";
import { rest } from "../core/rest-metadata.ts";
import { balancesOf } from "./ledger.ts";
import { Balance, CurrentPrice, LedgerPage, ListLedger } from "./schema.ts";
import { getCurrentPrice, listLedger } from "./service.ts";

export const billing = router({
  balance: query
    .meta(
      rest("GET", "/billing/balance", "billing:read", "Get the balance", {
        description: "Returns the available credits and the credits held for running calls and trainings.",
      }),
    )
    .output(Balance)
    .query(({ ctx }) => balancesOf(ctx.tx)),

  prices: query
    .meta(
      rest("GET", "/billing/prices", "billing:read", "Get the current prices", {
        description:
          "Calls and trainings that start now are charged at these prices, even if the prices change later. The client's own price if there is one, else the price book's.",
      }),
    )
    .output(CurrentPrice)
    .query(({ ctx }) => getCurrentPrice(ctx.tx)),

  ledger: query
    .meta(
      rest("GET", "/billing/ledger", "billing:read", "List ledger transactions", {
        description:
          "Newest first. The entries of a transaction sum to zero, and a transaction never changes. `subjectId` filters by one call or voice.",
        errors: ["resource_not_found", "cursor_invalid"],
      }),
    )
    .input(ListLedger)
    .output(LedgerPage)
    .query(({ ctx, input }) => listLedger(ctx.tx, input, ctx.listKey)),
});
