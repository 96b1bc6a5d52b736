import { command, providerQuery, query, router, stream } from "../core/procedures.ts";
import { Chunks } from "../core/reply.ts";
import { rest } from "../core/rest-metadata.ts";
import { openUploads } from "../uploads/service.ts";
import { createVoice } from "./create.ts";
import { preview, speaker } from "./preview.ts";
import {
  CreateVoice,
  ListVoices,
  PresignedSamples,
  PresignSamples,
  RemoveVoice,
  UpdateVoice,
  Voice,
  VoiceId,
  VoicePage,
} from "./schema.ts";
import { getVoice, listVoices, removeVoice, updateVoice } from "./service.ts";

export const voices = router({
  files: router({
    presign: command
      .meta(
        rest("POST", "/voices/files/presign", "voices:write", "Upload samples of a voice", {
          description: "Answers a link for each file: PUT its bytes there, then name it in `POST /voices`.",
          faults: ["provider_unavailable"],
          signs: true,
        }),
      )
      .input(PresignSamples)
      .output(PresignedSamples)
      .mutation(async ({ ctx, input }) => ({
        files: await openUploads(ctx.tx, { purpose: "voice_sample" }, input.files),
      })),
  }),

  create: providerQuery
    .meta(
      rest("POST", "/voices", "voices:write", "Create a voice", {
        description:
          "Clones a voice from samples, or registers another company's. Work goes on after the answer: `voice.training.completed` or `voice.training.failed` says how it ended. A clone costs credits, which are held now, spent when it is active, and given back when it fails.",
        status: 202,
        accepted: { says: "Work on it has begun.", shows: { status: "pending" } },
        faults: [
          "upload_not_found",
          "upload_not_complete",
          "upload_mismatch",
          "credits_insufficient",
          "provider_unavailable",
        ],
        vault: "provider_credential",
      }),
    )
    .input(CreateVoice)
    .output(Voice)
    .mutation(({ ctx, input }) => ctx.queryProvider(createVoice(input, ctx.providers.files, ctx.cipher))),

  list: query
    .meta(
      rest("GET", "/voices", "voices:read", "List voices", {
        description: "Your own, newest first, without those that were deleted. All filters that are given must hold.",
        faults: ["cursor_invalid"],
      }),
    )
    .input(ListVoices)
    .output(VoicePage)
    .query(({ ctx, input }) => listVoices(ctx.tx, input, ctx.listKey)),

  get: query
    .meta(
      rest("GET", "/voices/{id}", "voices:read", "Get a voice", {
        description: "What it is and how it stands; agents can speak with it once it is `active`.",
        faults: ["voice_not_found"],
      }),
    )
    .input(VoiceId)
    .output(Voice)
    .query(({ ctx, input }) => getVoice(ctx.tx, input.id)),

  preview: stream
    .meta(
      rest("GET", "/voices/{id}/preview", "voices:read", "Hear a voice", {
        description: "A spoken sample as WAV, made by the voice provider.",
        faults: ["voice_not_found", "voice_not_active", "provider_rejected", "provider_unavailable"],
        produces: "audio/wav",
      }),
    )
    .input(VoiceId)
    .output(Chunks)
    .query(async ({ ctx, input }) => {
      const whose = await ctx.page((tx) => speaker(tx, input.id));
      return preview(ctx.providers.ultravox, whose, ctx.deadline);
    }),

  update: command
    .meta(
      rest("PATCH", "/voices/{id}", "voices:write", "Change a voice", {
        description: "What it sounds like stays: for that, make another one.",
        faults: ["voice_not_found", "voice_busy"],
      }),
    )
    .input(UpdateVoice)
    .output(Voice)
    .mutation(({ ctx, input }) => updateVoice(ctx.tx, input)),

  remove: command
    .meta(
      rest("DELETE", "/voices/{id}", "voices:write", "Delete a voice", {
        description:
          "Its samples go with it. One that is still being made is given up, and costs nothing. Credits spent stay spent.",
        faults: ["voice_not_found", "voice_in_use"],
      }),
    )
    .input(RemoveVoice)
    .mutation(({ ctx, input }) => removeVoice(ctx.tx, input)),
});
