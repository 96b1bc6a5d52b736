import { rest } from "../rest.ts";
import { query, router } from "../trpc.ts";
import { balancesOf } from "./ledger.ts";
import { Balance, LedgerPage, ListLedger, PriceInForce } from "./schema.ts";
import { listLedger, priceInForce } from "./service.ts";

export const billing = router({
  balance: query
    .meta(rest("GET", "/billing/balance", "billing:read", "Get the balance"))
    .output(Balance)
    .query(({ ctx }) => balancesOf(ctx.tx)),

  prices: query
    .meta(
      rest("GET", "/billing/prices", "billing:read", "Get the prices in force", {
        description:
          "What is begun now is charged by these, whatever they become later: a price of the client's own, or that of the price book.",
      }),
    )
    .output(PriceInForce)
    .query(({ ctx }) => priceInForce(ctx.tx)),

  ledger: query
    .meta(
      rest("GET", "/billing/ledger", "billing:read", "List what was posted", {
        faults: ["subject_not_found", "cursor_invalid"],
      }),
    )
    .input(ListLedger)
    .output(LedgerPage)
    .query(({ ctx, input }) => listLedger(ctx.tx, input, ctx.listKey)),
});
