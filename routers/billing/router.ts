import { query, router } from "../core/procedures.ts";
import { rest } from "../core/rest-metadata.ts";
import { balancesOf } from "./ledger.ts";
import { Balance, CurrentPrice, LedgerPage, ListLedger } from "./schema.ts";
import { getCurrentPrice, listLedger } from "./service.ts";

export const billing = router({
  balance: query
    .meta(
      rest("GET", "/billing/balance", "billing:read", "Get the balance", {
        description: "What can be spent, and what is set aside for what is under way.",
      }),
    )
    .output(Balance)
    .query(({ ctx }) => balancesOf(ctx.tx)),

  prices: query
    .meta(
      rest("GET", "/billing/prices", "billing:read", "Get the prices in force", {
        description:
          "What is begun now is charged by these, whatever they become later: a price of the client's own, or that of the price book.",
      }),
    )
    .output(CurrentPrice)
    .query(({ ctx }) => getCurrentPrice(ctx.tx)),

  ledger: query
    .meta(
      rest("GET", "/billing/ledger", "billing:read", "List what was posted", {
        description:
          "Every posting, newest first: its entries sum to zero, and it is never changed. With `subjectId`, all that was posted for one call, or for one voice.",
        faults: ["resource_not_found", "cursor_invalid"],
      }),
    )
    .input(ListLedger)
    .output(LedgerPage)
    .query(({ ctx, input }) => listLedger(ctx.tx, input, ctx.listKey)),
});
