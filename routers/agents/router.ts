import { command, providerCommand, query, router, singleRowQuery } from "../core/procedures.ts";
import { rest } from "../core/rest-metadata.ts";
import { createAgent, duplicateAgent } from "./create.ts";
import {
  Agent,
  AgentId,
  AgentPage,
  AgentVersion,
  AgentVersionId,
  CreateAgent,
  DuplicateAgent,
  ListAgents,
  ListVersions,
  RemoveAgent,
  UpdateAgent,
  VersionPage,
} from "./schema.ts";
import { agentNotFound, agentStatement, fromAgentRow, listAgents, removeAgent } from "./service.ts";
import { restoreAgent, updateAgent } from "./update.ts";
import { getVersion, listVersions } from "./versions/list.ts";

/** What a config may name and not be able to use, and what the provider may say to it. */
const publishing = [
  "voice_not_found",
  "voice_not_active",
  "knowledge_base_not_found",
  "knowledge_base_not_ready",
  "tool_not_found",
  "tool_not_active",
  "credential_not_found",
  "provider_rejected",
  "provider_unavailable",
] as const;

const unheard = {
  says: "The voice provider has not answered in time. The agent is `provisioning`, of version 0, until it is known whether it is there: minutes at most; then it is `active` or `failed`.",
  shows: { status: "provisioning", version: 0 },
};
const unheardChange = {
  says: "The voice provider has not answered in time. The agent is shown as it was before, and is busy (409 `agent_busy`) until it is known whether the change is there: minutes at most.",
  shows: { status: "active" },
};

export const agents = router({
  create: providerCommand
    .meta(
      rest("POST", "/agents", "agents:write", "Create an agent", {
        description:
          "Makes it here and at the voice provider, as version 1. Voice, knowledge bases and tools must be yours and usable: one that is not is named by its field.",
        accepted: unheard,
        faults: publishing,
      }),
    )
    .input(CreateAgent)
    .output(Agent)
    .mutation(({ ctx, input }) => ctx.perform(createAgent, input)),

  get: singleRowQuery
    .meta(
      rest("GET", "/agents/{id}", "agents:read", "Get an agent", {
        description: "What it is now: the live version, or the first one while it is being made.",
        faults: ["agent_not_found"],
      }),
    )
    .input(AgentId)
    .output(Agent)
    .query(async ({ ctx, input }) => {
      const row = await ctx.readOne(agentStatement, [input.id]);
      if (!row) throw agentNotFound(input.id);
      return fromAgentRow(row);
    }),

  list: query
    .meta(
      rest("GET", "/agents", "agents:read", "List agents", {
        description:
          "Newest first, without those that were deleted. All filters that are given must hold; a voice, tool or knowledge base that is not yours is 404.",
        faults: ["voice_not_found", "tool_not_found", "knowledge_base_not_found", "cursor_invalid"],
      }),
    )
    .input(ListAgents)
    .output(AgentPage)
    .query(({ ctx, input }) => listAgents(ctx.tx, input, ctx.listKey)),

  update: providerCommand
    .meta(
      rest("PATCH", "/agents/{id}", "agents:write", "Change an agent", {
        description:
          "What is left out stays, lists are replaced whole. Writes a new version, which calls use as soon as the voice provider has it; where nothing changes, none.",
        accepted: unheardChange,
        faults: ["agent_not_found", "agent_busy", "agent_not_active", "agent_needs_variables", ...publishing],
      }),
    )
    .input(UpdateAgent)
    .output(Agent)
    .mutation(({ ctx, input }) => ctx.perform(updateAgent, input)),

  remove: command
    .meta(
      rest("DELETE", "/agents/{id}", "agents:write", "Delete an agent", {
        description:
          "It takes no more calls. Calls that go on are not ended, and all of its calls can still be read. Refused while inbound routes that are switched on lead to it, unless `force` is given.",
        faults: ["agent_not_found", "agent_busy", "agent_in_use"],
      }),
    )
    .input(RemoveAgent)
    .mutation(({ ctx, input }) => removeAgent(ctx.tx, input)),

  duplicate: providerCommand
    .meta(
      rest("POST", "/agents/{id}/duplicate", "agents:write", "Duplicate an agent", {
        description: "A new agent of what this one is now.",
        status: 201,
        accepted: unheard,
        faults: ["agent_not_found", "agent_not_active", ...publishing],
      }),
    )
    .input(DuplicateAgent)
    .output(Agent)
    .mutation(({ ctx, input }) => ctx.perform(duplicateAgent, input)),

  versions: router({
    list: query
      .meta(
        rest("GET", "/agents/{id}/versions", "agents:read", "List the versions of an agent", {
          description: "Every change with its number, its author and the fields that changed, the latest first.",
          faults: ["agent_not_found", "cursor_invalid"],
        }),
      )
      .input(ListVersions)
      .output(VersionPage)
      .query(({ ctx, input }) => listVersions(ctx.tx, input, ctx.listKey)),

    get: query
      .meta(
        rest("GET", "/agents/{id}/versions/{version}", "agents:read", "Get a version of an agent", {
          description: "One version whole, with its config, whether it is live, was, or never became so.",
          faults: ["agent_not_found", "agent_version_not_found"],
        }),
      )
      .input(AgentVersionId)
      .output(AgentVersion)
      .query(({ ctx, input }) => getVersion(ctx.tx, input)),

    restore: providerCommand
      .meta(
        rest("POST", "/agents/{id}/versions/{version}/restore", "agents:write", "Restore a version of an agent", {
          description: "Makes a new version with the name and the config of that one.",
          accepted: unheardChange,
          faults: [
            "agent_not_found",
            "agent_version_not_found",
            "agent_version_not_live",
            "agent_busy",
            "agent_not_active",
            "agent_needs_variables",
            ...publishing,
          ],
        }),
      )
      .input(AgentVersionId)
      .output(Agent)
      .mutation(({ ctx, input }) => ctx.perform(restoreAgent, input)),
  }),
});
