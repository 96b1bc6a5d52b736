import { operatorCommand, operatorQuery, router } from "../core/procedures.ts";
import { rest } from "../core/rest-metadata.ts";
import { assignNumber, listAllRoutes, listNumbers, reassignNumber, releaseNumber } from "./numbers.ts";
import {
  AdminRoutePage,
  AssignedNumber,
  AssignNumber,
  ListAllRoutes,
  ListNumbers,
  NumberId,
  NumberPage,
  ReassignNumber,
} from "./numbers-schema.ts";

/** The numbers of the shared provider account, for operators. */
export const adminNumbers = router({
  assign: operatorCommand
    .meta(
      rest("POST", "/admin/numbers", "platform:write", "Assign a number to a client", {
        description:
          "Assigns a number of the shared provider account. The client's matching routes answer from then on. Assignments of different clients must not overlap.",
        errors: ["client_not_found", "number_taken"],
      }),
    )
    .input(AssignNumber)
    .output(AssignedNumber)
    .mutation(({ ctx, input }) => assignNumber(ctx.tx, input, ctx.principal.id)),

  list: operatorQuery
    .meta(
      rest("GET", "/admin/numbers", "platform:read", "List assigned numbers", {
        description: "Lists the assignments on the shared provider account, newest first.",
        errors: ["cursor_invalid"],
      }),
    )
    .input(ListNumbers)
    .output(NumberPage)
    .query(({ ctx, input }) => listNumbers(ctx.tx, input, ctx.listKey)),

  reassign: operatorCommand
    .meta(
      rest("PATCH", "/admin/numbers/{id}", "platform:write", "Change an assigned number", {
        description:
          "Fields that are left out stay as they are. A new `clientId` moves the number to that client: matching routes of the previous client become `waiting`.",
        errors: ["number_not_found", "client_not_found", "number_taken"],
      }),
    )
    .input(ReassignNumber)
    .output(AssignedNumber)
    .mutation(({ ctx, input }) => reassignNumber(ctx.tx, input, ctx.principal.id)),

  release: operatorCommand
    .meta(
      rest("DELETE", "/admin/numbers/{id}", "platform:write", "Release an assigned number", {
        description:
          "The client's matching routes stop answering and become `waiting`. The number can be assigned again.",
        errors: ["number_not_found"],
      }),
    )
    .input(NumberId)
    .mutation(({ ctx, input }) => releaseNumber(ctx.tx, input.id)),

  routes: operatorQuery
    .meta(
      rest("GET", "/admin/routes", "platform:read", "List the inbound routes of all clients", {
        description:
          "Lists the routes of the shared provider account, newest first. A `waiting` route requests a number that is not assigned to its client.",
        errors: ["cursor_invalid"],
      }),
    )
    .input(ListAllRoutes)
    .output(AdminRoutePage)
    .query(({ ctx, input }) => listAllRoutes(ctx.tx, input, ctx.listKey)),
});
