import { command, providerCommand, query, router } from "../core/procedures.ts";
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
import { getAgent, listAgents, removeAgent } from "./service.ts";
import { restoreAgent, updateAgent } from "./update.ts";
import { getVersion, listVersions } from "./versions/list.ts";

/** Errors of references that a config cannot use, and errors of the provider. */
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

const unconfirmed = {
  description:
    "The voice provider did not respond in time. The agent is `provisioning`, with version 0, until its creation is confirmed: minutes at most. Then it is `active` or `failed`.",
  example: { status: "provisioning", version: 0 },
};
const unconfirmedChange = {
  description:
    "The voice provider did not respond in time. The response shows the agent before the change. It is busy (409 `agent_busy`) until the change is confirmed: minutes at most.",
  example: { status: "active" },
};

export const agents = router({
  create: providerCommand
    .meta(
      rest("POST", "/agents", "agents:write", "Create an agent", {
        description:
          "Creates version 1, here and at the voice provider. Voice, knowledge bases and tools must be yours and usable; an error names the field of one that is not.",
        accepted: unconfirmed,
        errors: publishing,
      }),
    )
    .input(CreateAgent)
    .output(Agent)
    .mutation(({ ctx, input }) => ctx.perform(createAgent, input)),

  get: query
    .meta(
      rest("GET", "/agents/{id}", "agents:read", "Get an agent", {
        description: "Returns the live version, or the first version while the agent is being created.",
        errors: ["agent_not_found"],
      }),
    )
    .input(AgentId)
    .output(Agent)
    .query(({ ctx, input }) => getAgent(ctx.tx, input.id)),

  list: query
    .meta(
      rest("GET", "/agents", "agents:read", "List agents", {
        description:
          "Newest first, without deleted agents. Filters combine. A filter by a voice, tool or knowledge base that is not yours returns 404.",
        errors: ["voice_not_found", "tool_not_found", "knowledge_base_not_found", "cursor_invalid"],
      }),
    )
    .input(ListAgents)
    .output(AgentPage)
    .query(({ ctx, input }) => listAgents(ctx.tx, input, ctx.listKey)),

  update: providerCommand
    .meta(
      rest("PATCH", "/agents/{id}", "agents:write", "Update an agent", {
        description:
          "Omitted fields keep their value; lists are replaced as a whole. Creates a new version, which calls use as soon as the voice provider has it. Without a change, no version is created.",
        accepted: unconfirmedChange,
        errors: ["agent_not_found", "agent_busy", "agent_not_active", "agent_variables_required", ...publishing],
      }),
    )
    .input(UpdateAgent)
    .output(Agent)
    .mutation(({ ctx, input }) => ctx.perform(updateAgent, input)),

  remove: command
    .meta(
      rest("DELETE", "/agents/{id}", "agents:write", "Delete an agent", {
        description:
          "The agent takes no more calls. Active calls continue, and past calls can still be read. Refused while enabled inbound routes lead to the agent, unless `force` is true.",
        errors: ["agent_not_found", "agent_busy", "agent_in_use"],
      }),
    )
    .input(RemoveAgent)
    .mutation(({ ctx, input }) => removeAgent(ctx.tx, input)),

  duplicate: providerCommand
    .meta(
      rest("POST", "/agents/{id}/duplicate", "agents:write", "Duplicate an agent", {
        description: "Creates a new agent from the live version of this one.",
        status: 201,
        accepted: unconfirmed,
        errors: ["agent_not_found", "agent_not_active", ...publishing],
      }),
    )
    .input(DuplicateAgent)
    .output(Agent)
    .mutation(({ ctx, input }) => ctx.perform(duplicateAgent, input)),

  versions: router({
    list: query
      .meta(
        rest("GET", "/agents/{id}/versions", "agents:read", "List the versions of an agent", {
          description: "Lists every change with its number, author and changed fields, newest first.",
          errors: ["agent_not_found", "cursor_invalid"],
        }),
      )
      .input(ListVersions)
      .output(VersionPage)
      .query(({ ctx, input }) => listVersions(ctx.tx, input, ctx.listKey)),

    get: query
      .meta(
        rest("GET", "/agents/{id}/versions/{version}", "agents:read", "Get a version of an agent", {
          description: "Returns one version with its config and its status.",
          errors: ["agent_not_found", "agent_version_not_found"],
        }),
      )
      .input(AgentVersionId)
      .output(AgentVersion)
      .query(({ ctx, input }) => getVersion(ctx.tx, input)),

    restore: providerCommand
      .meta(
        rest("POST", "/agents/{id}/versions/{version}/restore", "agents:write", "Restore a version of an agent", {
          description: "Creates a new version with the name and the config of that one.",
          accepted: unconfirmedChange,
          errors: [
            "agent_not_found",
            "agent_version_not_found",
            "agent_version_not_live",
            "agent_busy",
            "agent_not_active",
            "agent_variables_required",
            ...publishing,
          ],
        }),
      )
      .input(AgentVersionId)
      .output(Agent)
      .mutation(({ ctx, input }) => ctx.perform(restoreAgent, input)),
  }),
});
