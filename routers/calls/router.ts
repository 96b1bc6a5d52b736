import { command, providerCommand, providerQuery, query, router, stream } from "../core/procedures.ts";
import { Chunks } from "../core/reply.ts";
import { rest } from "../core/rest-metadata.ts";
import { eraseCall } from "./artifacts/erase.ts";
import { GetRecording, linkToRecording, Recording } from "./artifacts/recording.ts";
import { getRerun, OutputRerun, RerunId, RerunOutput, rerunOutput } from "./artifacts/rerun-output.ts";
import { placeCall } from "./create/place.ts";
import { CreateCall } from "./create/schema.ts";
import { LegPage, ListLegs } from "./lifecycle/leg-schema.ts";
import { listLegs } from "./lifecycle/legs.ts";
import { hangUpCall, refreshCall } from "./lifecycle/refresh-and-hangup.ts";
import { exportCalls } from "./list/export.ts";
import { listCalls } from "./list/list.ts";
import { ExportCalls, ListCalls } from "./list/schema.ts";
import { Call, CallId, CallPage, HangUp, Transcript } from "./schema.ts";
import { getCall, getTranscript } from "./service.ts";

export const calls = router({
  create: providerCommand
    .meta(
      rest("POST", "/calls", "calls:write", "Place a call", {
        limit: "dial",
        description:
          "Holds the credits for the longest possible call first. The real cost is settled when the provider has billed the call.",
        accepted: {
          description:
            "The voice provider did not respond in time, so it is not known whether the number was dialled. `status` is `unknown` until this is settled, within minutes. The number is never dialled twice.",
          example: { status: "unknown" },
        },
        errors: [
          "agent_not_found",
          "agent_not_active",
          "agent_busy",
          "agent_version_not_found",
          "agent_version_not_live",
          "voice_not_found",
          "voice_not_active",
          "credits_insufficient",
          "provider_rejected",
          "provider_unavailable",
        ],
      }),
    )
    .input(CreateCall)
    .output(Call)
    .mutation(({ ctx, input }) => ctx.perform(placeCall, input)),

  export: stream
    .meta(
      rest("GET", "/calls/export", "calls:read", "Export calls as CSV", {
        description:
          "Takes the filters of the list. Newest first, at most 100,000 calls. A cell that a spreadsheet would read as a formula starts with an apostrophe.",
        produces: "text/csv",
        errors: ["agent_not_found", "export_too_large"],
      }),
    )
    .input(ExportCalls)
    .output(Chunks)
    .query(({ ctx, input }) => ({ chunks: exportCalls(ctx.page, input), fileName: "calls.csv" })),

  get: query
    .meta(
      rest("GET", "/calls/{id}", "calls:read", "Get a call", {
        description: "Returns status and outcome, cost, and the status of transcript, recording and output.",
        errors: ["call_not_found"],
      }),
    )
    .input(CallId)
    .output(Call)
    .query(({ ctx, input }) => getCall(ctx.tx, input.id)),

  list: query
    .meta(
      rest("GET", "/calls", "calls:read", "List calls", {
        description: "Newest first. A call must match all filters. Erased calls are included, without their content.",
        errors: ["agent_not_found", "cursor_invalid"],
      }),
    )
    .input(ListCalls)
    .output(CallPage)
    .query(({ ctx, input }) => listCalls(ctx.tx, input, ctx.listKey)),

  legs: query
    .meta(
      rest("GET", "/calls/{id}/legs", "calls:read", "List the telephone legs of a call", {
        description: "As the carrier reports them, newest first. Empty if the carrier sends no reports.",
        errors: ["call_not_found", "cursor_invalid"],
      }),
    )
    .input(ListLegs)
    .output(LegPage)
    .query(({ ctx, input }) => listLegs(ctx.tx, input, ctx.listKey)),

  transcript: query
    .meta(
      rest("GET", "/calls/{id}/transcript", "calls:read", "Get the transcript of a call", {
        description:
          "Returns the turns and the whole text. 409 `call_not_ended` until the call has ended and its messages have been read; after that, `status` shows whether a transcript exists.",
        errors: ["call_not_found", "call_not_ended"],
      }),
    )
    .input(CallId)
    .output(Transcript)
    .query(({ ctx, input }) => getTranscript(ctx.tx, input.id)),

  recording: providerQuery
    .meta(
      rest("GET", "/calls/{id}/recording", "calls:read", "Get a link to the recording of a call", {
        description:
          "Returns a link to the WAV file. Anyone with the link can download the file until the link expires. 409 `recording_not_ready` until the file has been fetched after the call.",
        errors: ["call_not_found", "recording_not_found", "recording_not_ready", "provider_unavailable"],
      }),
    )
    .input(GetRecording)
    .output(Recording)
    .query(({ ctx, input }) => ctx.queryProvider(linkToRecording(ctx.providers.files, input))),

  output: router({
    rerun: command
      .meta(
        rest("POST", "/agents/{id}/output/rerun", "calls:write", "Rerun the output of an agent's past calls", {
          description: "Extracts the output again with the agent's live output schema. Sends no events.",
          status: 202,
          accepted: {
            description: "The rerun has started. Get its progress by its id.",
            example: { status: "running", done: 0, total: null },
          },
          errors: ["agent_not_found", "output_schema_missing", "output_rerun_running"],
        }),
      )
      .input(RerunOutput)
      .output(OutputRerun)
      .mutation(({ ctx, input }) => rerunOutput(ctx.tx, input)),

    get: query
      .meta(
        rest("GET", "/calls/output-reruns/{id}", "calls:read", "Get an output rerun", {
          description: "Returns how many calls are done and whether the rerun has finished.",
          errors: ["workflow_not_found"],
        }),
      )
      .input(RerunId)
      .output(OutputRerun)
      .query(({ ctx, input }) => getRerun(ctx.tx, input.id)),
  }),

  refresh: providerQuery
    .meta(
      rest("POST", "/calls/{id}/refresh", "calls:write", "Refresh a call from the voice provider", {
        description:
          "Gets the provider's present state and updates the call, in case a provider webhook was lost. Returns the call.",
        errors: ["call_not_found", "provider_rejected", "provider_unavailable"],
      }),
    )
    .input(CallId)
    .output(Call)
    .mutation(({ ctx, input }) => ctx.queryProvider(refreshCall(ctx.providers.ultravox, input.id))),

  hangUp: providerQuery
    .meta(
      rest("POST", "/calls/{id}/hangup", "calls:write", "Hang up a call", {
        description: "The call may continue for a moment until the voice provider ends it.",
        errors: ["call_not_found", "call_not_joined", "provider_rejected", "provider_unavailable"],
      }),
    )
    .input(HangUp)
    .output(Call)
    .mutation(({ ctx, input }) => ctx.queryProvider(hangUpCall(ctx.providers.ultravox, input))),

  remove: command
    .meta(
      rest("DELETE", "/calls/{id}", "calls:write", "Erase a call", {
        description:
          "Removes the content of the call, here and at the voice provider. The cost and an empty record of the call remain. A second request returns 204 again.",
        errors: ["call_not_found", "call_not_ended"],
      }),
    )
    .input(CallId)
    .mutation(({ ctx, input }) => eraseCall(ctx.tx, input.id)),
});
