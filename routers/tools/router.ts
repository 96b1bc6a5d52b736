import { command, providerCommand, providerQuery, query, router } from "../core/procedures.ts";
import { rest } from "../core/rest-metadata.ts";
import { createTool, updateTool } from "./create-and-update.ts";
import { CreateTool, ListTools, RemoveTool, TestTool, Tool, ToolId, ToolPage, ToolTest, UpdateTool } from "./schema.ts";
import { getTool, listTools, removeTool } from "./service.ts";
import { testTool } from "./test-tool.ts";

export const tools = router({
  create: providerCommand
    .meta(
      rest("POST", "/tools", "tools:write", "Create a tool", {
        description: "Agents can use it as soon as it is active. What of `definition` does not go together is named.",
        accepted: {
          says: "The voice provider has not answered in time. The tool is `provisioning`, of version 0, until it is known whether it is there: minutes at most; then it is `active` or `failed`.",
          shows: { status: "provisioning", version: 0 },
        },
        faults: [
          "tool_name_taken",
          "url_forbidden",
          "credential_not_found",
          "provider_rejected",
          "provider_unavailable",
        ],
      }),
    )
    .input(CreateTool)
    .output(Tool)
    .mutation(({ ctx, input }) => ctx.perform(createTool, { ...input, rules: ctx.providers.guarded.rules })),

  get: query
    .meta(
      rest("GET", "/tools/{id}", "tools:read", "Get a tool", {
        description: "What it is now; while a change is under way, what it was before.",
        faults: ["tool_not_found"],
      }),
    )
    .input(ToolId)
    .output(Tool)
    .query(({ ctx, input }) => getTool(ctx.tx, input.id)),

  list: query
    .meta(
      rest("GET", "/tools", "tools:read", "List tools", {
        description: "Newest first, without those that were deleted. All filters that are given must hold.",
        faults: ["cursor_invalid"],
      }),
    )
    .input(ListTools)
    .output(ToolPage)
    .query(({ ctx, input }) => listTools(ctx.tx, input, ctx.listKey)),

  update: providerCommand
    .meta(
      rest("PATCH", "/tools/{id}", "tools:write", "Change a tool", {
        description:
          "What is left out stays; `definition` is replaced whole. The agents that use it have it from then on.",
        accepted: {
          says: "The voice provider has not answered in time. The tool is shown as it was before, and is busy (409 `tool_busy`) until it is known whether the change is there: minutes at most.",
          shows: { status: "active" },
        },
        faults: [
          "tool_not_found",
          "tool_busy",
          "tool_not_active",
          "tool_name_taken",
          "url_forbidden",
          "credential_not_found",
          "provider_rejected",
          "provider_unavailable",
        ],
      }),
    )
    .input(UpdateTool)
    .output(Tool)
    .mutation(({ ctx, input }) => ctx.perform(updateTool, { ...input, rules: ctx.providers.guarded.rules })),

  remove: command
    .meta(
      rest("DELETE", "/tools/{id}", "tools:write", "Delete a tool", {
        description: "Refused while agents use it, unless `force` is true.",
        faults: ["tool_not_found", "tool_busy", "tool_in_use"],
      }),
    )
    .input(RemoveTool)
    .mutation(({ ctx, input }) => removeTool(ctx.tx, input)),

  test: providerQuery
    .meta(
      rest("POST", "/tools/{id}/test", "tools:write", "Try a tool", {
        description:
          "Sends the request that the voice provider would send, now and without a call. That the tool fails is answered with 200 and `error`.",
        faults: ["tool_not_found", "credential_not_found"],
        vault: "provider_credential",
      }),
    )
    .input(TestTool)
    .output(ToolTest)
    .mutation(({ ctx, input }) => ctx.consult(testTool(input, ctx.ring, ctx.providers.guarded))),
});
