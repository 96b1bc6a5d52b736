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

/** The numbers of the provider account that clients share, for those who run the installation. */
export const adminNumbers = router({
  assign: operatorCommand
    .meta(
      rest("POST", "/admin/numbers", "platform:write", "Assign a number to a client", {
        description:
          "On the shared provider account. From then on the client's routes within it answer, and no other client can have it. Between clients no two assignments may fit the same.",
        faults: ["client_not_found", "number_taken"],
      }),
    )
    .input(AssignNumber)
    .output(AssignedNumber)
    .mutation(({ ctx, input }) => assignNumber(ctx.tx, input, ctx.principal.id)),

  list: operatorQuery
    .meta(
      rest("GET", "/admin/numbers", "platform:read", "List assigned numbers", {
        description: "What is assigned on the shared provider account, and to whom. Newest first.",
        faults: ["cursor_invalid"],
      }),
    )
    .input(ListNumbers)
    .output(NumberPage)
    .query(({ ctx, input }) => listNumbers(ctx.tx, input, ctx.listKey)),

  reassign: operatorCommand
    .meta(
      rest("PATCH", "/admin/numbers/{id}", "platform:write", "Change an assigned number", {
        description:
          "With another `clientId` the number changes hands: routes of the client that had it wait from then on. What is left out stays.",
        faults: ["number_not_found", "client_not_found", "number_taken"],
      }),
    )
    .input(ReassignNumber)
    .output(AssignedNumber)
    .mutation(({ ctx, input }) => reassignNumber(ctx.tx, input, ctx.principal.id)),

  release: operatorCommand
    .meta(
      rest("DELETE", "/admin/numbers/{id}", "platform:write", "Release an assigned number", {
        description: "The client's routes within it answer no more, and wait. The number can be assigned again.",
        faults: ["number_not_found"],
      }),
    )
    .input(NumberId)
    .mutation(({ ctx, input }) => releaseNumber(ctx.tx, input.id)),

  routes: operatorQuery
    .meta(
      rest("GET", "/admin/routes", "platform:read", "List the inbound routes of all clients", {
        description:
          "Those of the shared provider account, newest first. One that is `waiting` asks for a number that is not assigned to its client.",
        faults: ["cursor_invalid"],
      }),
    )
    .input(ListAllRoutes)
    .output(AdminRoutePage)
    .query(({ ctx, input }) => listAllRoutes(ctx.tx, input, ctx.listKey)),
});
