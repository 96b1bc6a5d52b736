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
        description:
          "Agents can use the tool as soon as it is active. Errors name the fields of `definition` that conflict.",
        accepted: {
          description:
            "The voice provider did not respond in time. The tool is `provisioning`, with version 0, until its creation is confirmed: minutes at most. Then it is `active` or `failed`.",
          example: { status: "provisioning", version: 0 },
        },
        errors: [
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
        description: "Returns the tool. While a change is pending, returns the tool before the change.",
        errors: ["tool_not_found"],
      }),
    )
    .input(ToolId)
    .output(Tool)
    .query(({ ctx, input }) => getTool(ctx.tx, input.id)),

  list: query
    .meta(
      rest("GET", "/tools", "tools:read", "List tools", {
        description: "Newest first, without deleted tools. Filters combine.",
        errors: ["cursor_invalid"],
      }),
    )
    .input(ListTools)
    .output(ToolPage)
    .query(({ ctx, input }) => listTools(ctx.tx, input, ctx.listKey)),

  update: providerCommand
    .meta(
      rest("PATCH", "/tools/{id}", "tools:write", "Update a tool", {
        description:
          "Omitted fields keep their value; `definition` is replaced as a whole. The agents that use the tool get the change.",
        accepted: {
          description:
            "The voice provider did not respond in time. The response shows the tool before the change. It is busy (409 `tool_busy`) until the change is confirmed: minutes at most.",
          example: { status: "active" },
        },
        errors: [
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
        description: "Refused while agents use the tool, unless `force` is true.",
        errors: ["tool_not_found", "tool_busy", "tool_in_use"],
      }),
    )
    .input(RemoveTool)
    .mutation(({ ctx, input }) => removeTool(ctx.tx, input)),

  test: providerQuery
    .meta(
      rest("POST", "/tools/{id}/test", "tools:write", "Test a tool", {
        description:
          "Sends the request that the voice provider would send, without a call. If the tool fails, the response is 200 with `error`.",
        errors: ["tool_not_found", "credential_not_found"],
        vault: "provider_credential",
      }),
    )
    .input(TestTool)
    .output(ToolTest)
    .mutation(({ ctx, input }) => ctx.queryProvider(testTool(input, ctx.cipher, ctx.providers.guarded))),
});
