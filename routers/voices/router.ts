import { command, providerQuery, query, router, stream } from "../core/procedures.ts";
import { Chunks } from "../core/reply.ts";
import { rest } from "../core/rest-metadata.ts";
import { openUploads } from "../uploads/service.ts";
import { createVoice } from "./create.ts";
import { findPreviewVoice, preview } from "./preview.ts";
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
        rest("POST", "/voices/files/presign", "voices:write", "Create upload links for voice samples", {
          description: "Returns a link for each file. PUT its bytes there, then give its id to `POST /voices`.",
          errors: ["provider_unavailable"],
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
          "Clones a voice from samples, or registers a voice of another vendor. Work continues after the response and ends with the event `voice.training.completed` or `voice.training.failed`. A clone costs credits. They are held now, debited when the voice is active, and released if it fails.",
        status: 202,
        accepted: { description: "The voice is being created.", example: { status: "pending" } },
        errors: [
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
        description: "Your own voices, newest first, without deleted ones. Filters combine.",
        errors: ["cursor_invalid"],
      }),
    )
    .input(ListVoices)
    .output(VoicePage)
    .query(({ ctx, input }) => listVoices(ctx.tx, input, ctx.listKey)),

  get: query
    .meta(
      rest("GET", "/voices/{id}", "voices:read", "Get a voice", {
        description: "Returns a voice with its status. Agents can use it once it is `active`.",
        errors: ["voice_not_found"],
      }),
    )
    .input(VoiceId)
    .output(Voice)
    .query(({ ctx, input }) => getVoice(ctx.tx, input.id)),

  preview: stream
    .meta(
      rest("GET", "/voices/{id}/preview", "voices:read", "Preview a voice", {
        description: "Returns a spoken sample as WAV from the voice provider.",
        errors: ["voice_not_found", "voice_not_active", "provider_rejected", "provider_unavailable"],
        produces: "audio/wav",
      }),
    )
    .input(VoiceId)
    .output(Chunks)
    .query(async ({ ctx, input }) => {
      const voice = await ctx.page((tx) => findPreviewVoice(tx, input.id));
      return preview(ctx.providers.ultravox, voice, ctx.deadline);
    }),

  update: command
    .meta(
      rest("PATCH", "/voices/{id}", "voices:write", "Update a voice", {
        description: "Changes the name, description, language and metadata. To change the sound, create another voice.",
        errors: ["voice_not_found", "voice_busy"],
      }),
    )
    .input(UpdateVoice)
    .output(Voice)
    .mutation(({ ctx, input }) => updateVoice(ctx.tx, input)),

  remove: command
    .meta(
      rest("DELETE", "/voices/{id}", "voices:write", "Delete a voice", {
        description:
          "Deletes the voice and its samples. If it is still being created, that is cancelled and costs nothing. Debited credits are not returned.",
        errors: ["voice_not_found", "voice_in_use"],
      }),
    )
    .input(RemoveVoice)
    .mutation(({ ctx, input }) => removeVoice(ctx.tx, input)),
});
