import { rest } from "../rest.ts";
import { hotQuery, outbound, query, router } from "../trpc.ts";
import { createAgent, updateAgent } from "./publish.ts";
import { Agent, AgentId, AgentPage, CreateAgent, ListAgents, UpdateAgent } from "./schema.ts";
import { agentNotFound, fromHotRow, hotAgent, listAgents } from "./service.ts";

export const agents = router({
  create: outbound
    .meta(
      rest("POST", "/agents", "agents:write", "Create an agent", {
        faults: ["provider_rejected", "provider_unavailable"],
      }),
    )
    .input(CreateAgent)
    .output(Agent)
    .mutation(({ ctx, input }) => ctx.perform(createAgent, input)),

  get: hotQuery
    .meta(rest("GET", "/agents/{id}", "agents:read", "Get an agent", { faults: ["agent_not_found"] }))
    .input(AgentId)
    .output(Agent)
    .query(async ({ ctx, input }) => {
      const row = await ctx.readOne(hotAgent, [input.id]);
      if (!row) throw agentNotFound(input.id);
      return fromHotRow(row);
    }),

  list: query
    .meta(rest("GET", "/agents", "agents:read", "List agents", { faults: ["cursor_invalid"] }))
    .input(ListAgents)
    .output(AgentPage)
    .query(({ ctx, input }) => listAgents(ctx.tx, input, ctx.listKey)),

  update: outbound
    .meta(
      rest("PATCH", "/agents/{id}", "agents:write", "Change an agent", {
        description: "Writes a new version, which calls use as soon as the voice provider has it.",
        faults: ["agent_not_found", "agent_busy", "agent_not_active", "provider_rejected", "provider_unavailable"],
      }),
    )
    .input(UpdateAgent)
    .output(Agent)
    .mutation(({ ctx, input }) => ctx.perform(updateAgent, input)),
});
