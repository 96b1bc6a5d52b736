import { startBackfill } from "../calls/artifacts/backfill.ts";
import { CallId } from "../calls/schema.ts";
import { router, serviceCommand, serviceQuery } from "../core/procedures.ts";
import { rest } from "../core/rest-metadata.ts";
import { refreshKnowledgeBase } from "../knowledge/files.ts";
import { KnowledgeBase, KnowledgeBaseId } from "../knowledge/schema.ts";
import { UpdateVoiceStatus, Voice } from "../voices/schema.ts";
import { reportStatus } from "../voices/training.ts";
import { getWorkflow, listWorkflows } from "../workflows/list.ts";
import { ListWorkflows, Workflow, WorkflowId, WorkflowPage } from "../workflows/schema.ts";
import { retryWorkflow } from "../workflows/service.ts";

/** For the installation's own services: each workflow step as an endpoint, for an external workflow engine. */
export const internal = router({
  voices: router({
    updateStatus: serviceCommand
      .meta(
        rest("POST", "/internal/voices/{id}/update-status", "internal:write", "Update the status of a voice", {
          description:
            "For a service that creates the voice instead of our workflow. Credits are debited or released in the same way.",
          errors: ["voice_not_found", "voice_transition_invalid"],
        }),
      )
      .input(UpdateVoiceStatus)
      .output(Voice)
      .mutation(({ ctx, input }) => reportStatus(ctx.tx, input)),
  }),

  calls: router({
    syncArtifacts: serviceCommand
      .meta(
        rest("POST", "/internal/calls/{id}/sync-artifacts", "internal:write", "Fetch the artifacts of a call", {
          description: "Fetches the missing transcript and recording.",
          status: 202,
          errors: ["call_not_found", "call_not_ended"],
        }),
      )
      .input(CallId)
      .output(Workflow)
      .mutation(async ({ ctx, input }) => getWorkflow(ctx.tx, await startBackfill(ctx.tx, input.id))),
  }),

  knowledge: router({
    refresh: serviceCommand
      .meta(
        rest("POST", "/internal/knowledge/{id}/refresh", "internal:write", "Refresh the files of a knowledge base", {
          description: "Checks now whether the voice provider has ingested the pending files.",
          errors: ["knowledge_base_not_found"],
        }),
      )
      .input(KnowledgeBaseId)
      .output(KnowledgeBase)
      .mutation(({ ctx, input }) => refreshKnowledgeBase(ctx.tx, input.id)),
  }),

  workflows: router({
    list: serviceQuery
      .meta(
        rest("GET", "/internal/workflows", "internal:read", "List workflow runs", {
          errors: ["cursor_invalid"],
        }),
      )
      .input(ListWorkflows)
      .output(WorkflowPage)
      .query(({ ctx, input }) => listWorkflows(ctx.tx, input, ctx.listKey)),

    get: serviceQuery
      .meta(
        rest("GET", "/internal/workflows/{id}", "internal:read", "Get a workflow run", {
          errors: ["workflow_not_found"],
        }),
      )
      .input(WorkflowId)
      .output(Workflow)
      .query(({ ctx, input }) => getWorkflow(ctx.tx, input.id)),

    retry: serviceCommand
      .meta(
        rest("POST", "/internal/workflows/{id}/retry", "internal:write", "Retry a failed workflow run", {
          description: "Restarts the run at the step that failed, with a full set of attempts.",
          errors: ["workflow_not_found", "workflow_not_failed"],
        }),
      )
      .input(WorkflowId)
      .output(Workflow)
      .mutation(async ({ ctx, input }) => {
        await retryWorkflow(ctx.tx, input.id);
        return getWorkflow(ctx.tx, input.id);
      }),
  }),
});
