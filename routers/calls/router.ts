import { command, providerCommand, providerQuery, query, router, stream } from "../core/procedures.ts";
import { Chunks } from "../core/reply.ts";
import { rest } from "../core/rest-metadata.ts";
import { eraseCall } from "./artifacts/erase.ts";
import { GetRecording, linkToRecording, Recording } from "./artifacts/recording.ts";
import { getRerun, OutputRerun, RerunId, RerunOutput, rerunOutput } from "./artifacts/rerun-output.ts";
import { placeCall } from "./create/place.ts";
import { listLegs } from "./lifecycle/legs.ts";
import { hangUpCall, refreshCall } from "./lifecycle/refresh-and-hangup.ts";
import { exportCalls } from "./list/export.ts";
import { listCalls } from "./list/list.ts";
import {
  Call,
  CallId,
  CallPage,
  CreateCall,
  ExportCalls,
  HangUp,
  LegPage,
  ListCalls,
  ListLegs,
  Transcript,
} from "./schema.ts";
import { getCall, getTranscript } from "./service.ts";

export const calls = router({
  create: providerCommand
    .meta(
      rest("POST", "/calls", "calls:write", "Place a call", {
        limit: "dial",
        description:
          "Credits for the longest possible call are held first; what it did cost is settled when the provider has billed it.",
        accepted: {
          says: "The voice provider has not answered in time, and nobody knows yet whether it was dialled. `status` is `unknown` until that is found out: minutes at most. It is never dialled twice.",
          shows: { status: "unknown" },
        },
        faults: [
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
          "The filters of the list, newest first, at most 100 000 calls. A cell that a spreadsheet would take for a formula begins with an apostrophe.",
        produces: "text/csv",
        faults: ["agent_not_found", "export_too_large"],
      }),
    )
    .input(ExportCalls)
    .output(Chunks)
    .query(({ ctx, input }) => ({ chunks: exportCalls(ctx.page, input), fileName: "calls.csv" })),

  get: query
    .meta(
      rest("GET", "/calls/{id}", "calls:read", "Get a call", {
        description:
          "How it stands: status and outcome, what it costs, and how far transcript, recording and output are.",
        faults: ["call_not_found"],
      }),
    )
    .input(CallId)
    .output(Call)
    .query(({ ctx, input }) => getCall(ctx.tx, input.id)),

  list: query
    .meta(
      rest("GET", "/calls", "calls:read", "List calls", {
        description:
          "Newest first. All filters that are given must hold; calls that were erased are among them, without what was said.",
        faults: ["agent_not_found", "cursor_invalid"],
      }),
    )
    .input(ListCalls)
    .output(CallPage)
    .query(({ ctx, input }) => listCalls(ctx.tx, input, ctx.listKey)),

  legs: query
    .meta(
      rest("GET", "/calls/{id}/legs", "calls:read", "List the telephone legs of a call", {
        description: "As the carrier reports them, the latest first. Empty where the carrier reports none to us.",
        faults: ["call_not_found", "cursor_invalid"],
      }),
    )
    .input(ListLegs)
    .output(LegPage)
    .query(({ ctx, input }) => listLegs(ctx.tx, input, ctx.listKey)),

  transcript: query
    .meta(
      rest("GET", "/calls/{id}/transcript", "calls:read", "Get the transcript of a call", {
        description:
          "What was said, turn by turn and as one text. 409 `call_not_ended` until the call is over and its messages have been read; then `status` says whether there is one.",
        faults: ["call_not_found", "call_not_ended"],
      }),
    )
    .input(CallId)
    .output(Transcript)
    .query(({ ctx, input }) => getTranscript(ctx.tx, input.id)),

  recording: providerQuery
    .meta(
      rest("GET", "/calls/{id}/recording", "calls:read", "Get a link to the recording of a call", {
        description:
          "A link by which whoever has it can download the WAV file, until it runs out. 409 `recording_not_ready` until the file has been fetched after the call.",
        faults: ["call_not_found", "recording_not_found", "recording_not_ready", "provider_unavailable"],
      }),
    )
    .input(GetRecording)
    .output(Recording)
    .query(({ ctx, input }) => ctx.queryProvider(linkToRecording(ctx.providers.files, input))),

  output: router({
    rerun: command
      .meta(
        rest("POST", "/agents/{id}/output/rerun", "calls:write", "Fill the output of an agent's past calls anew", {
          description: "By the output schema that is live now. Sends no events.",
          status: 202,
          accepted: { says: "It has begun; ask for it by its id.", shows: { status: "running", done: 0, total: null } },
          faults: ["agent_not_found", "output_schema_missing", "output_rerun_running"],
        }),
      )
      .input(RerunOutput)
      .output(OutputRerun)
      .mutation(({ ctx, input }) => rerunOutput(ctx.tx, input)),

    get: query
      .meta(
        rest("GET", "/calls/output-reruns/{id}", "calls:read", "See how far a re-run of outputs has come", {
          description: "How many of the calls have been looked at, and whether it has ended.",
          faults: ["workflow_not_found"],
        }),
      )
      .input(RerunId)
      .output(OutputRerun)
      .query(({ ctx, input }) => getRerun(ctx.tx, input.id)),
  }),

  refresh: providerQuery
    .meta(
      rest("POST", "/calls/{id}/refresh", "calls:write", "Ask the voice provider how a call stands", {
        description: "Brings the call there, should a message of the provider have been lost, and answers it.",
        faults: ["call_not_found", "provider_rejected", "provider_unavailable"],
      }),
    )
    .input(CallId)
    .output(Call)
    .mutation(({ ctx, input }) => ctx.queryProvider(refreshCall(ctx.providers.ultravox, input.id))),

  hangUp: providerQuery
    .meta(
      rest("POST", "/calls/{id}/hangup", "calls:write", "Hang up", {
        description: "The call may go on for the moment that the voice provider takes to end it.",
        faults: ["call_not_found", "call_not_joined", "provider_rejected", "provider_unavailable"],
      }),
    )
    .input(HangUp)
    .output(Call)
    .mutation(({ ctx, input }) => ctx.queryProvider(hangUpCall(ctx.providers.ultravox, input))),

  remove: command
    .meta(
      rest("DELETE", "/calls/{id}", "calls:write", "Erase a call", {
        description:
          "Removes what was said, here and at the voice provider. What it cost stays, and so does the call, as a tombstone.",
        faults: ["call_not_found", "call_not_ended"],
      }),
    )
    .input(CallId)
    .mutation(({ ctx, input }) => eraseCall(ctx.tx, input.id)),
});
