import { rest } from "../rest.ts";
import { outbound, query, router } from "../trpc.ts";
import { placeCall } from "./place.ts";
import { Call, CallId, CallPage, CreateCall, ListCalls, Transcript } from "./schema.ts";
import { getCall, getTranscript, listCalls } from "./service.ts";

export const calls = router({
  create: outbound
    .meta(
      rest("POST", "/calls", "calls:write", "Place a call", {
        limit: "dial",
        description:
          "Credits for the longest possible call are held first; what it did cost is settled when the provider has billed it.",
        faults: [
          "agent_not_found",
          "agent_not_active",
          "agent_busy",
          "credits_insufficient",
          "provider_rejected",
          "provider_unavailable",
        ],
      }),
    )
    .input(CreateCall)
    .output(Call)
    .mutation(({ ctx, input }) => ctx.perform(placeCall, input)),

  get: query
    .meta(rest("GET", "/calls/{id}", "calls:read", "Get a call", { faults: ["call_not_found"] }))
    .input(CallId)
    .output(Call)
    .query(({ ctx, input }) => getCall(ctx.tx, input.id)),

  list: query
    .meta(rest("GET", "/calls", "calls:read", "List calls", { faults: ["agent_not_found", "cursor_invalid"] }))
    .input(ListCalls)
    .output(CallPage)
    .query(({ ctx, input }) => listCalls(ctx.tx, input, ctx.listKey)),

  transcript: query
    .meta(
      rest("GET", "/calls/{id}/transcript", "calls:read", "Get the transcript of a call", {
        faults: ["call_not_found", "call_not_ended"],
      }),
    )
    .input(CallId)
    .output(Transcript)
    .query(({ ctx, input }) => getTranscript(ctx.tx, input.id)),
});
