import { rest } from "../rest.ts";
import { query, router } from "../trpc.ts";
import { balancesOf } from "./ledger.ts";
import { Balance, LedgerPage, ListLedger } from "./schema.ts";
import { listLedger } from "./service.ts";

export const billing = router({
  balance: query
    .meta(rest("GET", "/billing/balance", "billing:read", "Get the balance"))
    .output(Balance)
    .query(({ ctx }) => balancesOf(ctx.tx)),

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
