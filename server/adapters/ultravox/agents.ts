import type { AgentTemplate, UltravoxAgents } from "../../../routers/ports/ultravox.ts";
import { json, type Line, unless } from "./http-client.ts";
import { templateBody, templateDifferences, UltravoxAgent } from "./schema.ts";

export function agentsOf({ ask, all, remove }: Line): UltravoxAgents {
  return {
    createAgent: (accountId, { id, template }, deadline) =>
      ask(
        accountId,
        {
          method: "POST",
          repeat: "create",
          path: "/api/agents",
          body: { name: id, callTemplate: templateBody(template, "create") },
          read: json(UltravoxAgent).from,
          secrets: tokensOf(template),
        },
        deadline,
      ),

    updateAgent: (accountId, providerAgentId, template, deadline) =>
      ask(
        accountId,
        {
          method: "PATCH",
          repeat: "safe",
          path: `/api/agents/${encodeURIComponent(providerAgentId)}`,
          body: { callTemplate: templateBody(template, "update") },
          read: json(UltravoxAgent).from,
          secrets: tokensOf(template),
        },
        deadline,
      ),

    async findAgents(accountId, agentId, deadline) {
      const list = { path: "/api/agents", query: { search: agentId }, item: UltravoxAgent };
      return (await all(accountId, list, deadline)).filter((agent) => agent.name === agentId);
    },

    /** What the provider does not show cannot differ. */
    differences: ({ callTemplate }, template) => (callTemplate ? templateDifferences(callTemplate, template) : []),

    getAgent(accountId, providerAgentId, deadline) {
      const path = `/api/agents/${encodeURIComponent(providerAgentId)}`;
      const asked = ask(accountId, { method: "GET", repeat: "safe", path, read: json(UltravoxAgent).from }, deadline);
      return unless(404, null, asked);
    },

    deleteAgent: (accountId, providerAgentId, deadline) =>
      remove(accountId, `/api/agents/${encodeURIComponent(providerAgentId)}`, deadline),
  };
}

/** Not to stand in what an error quotes. */
const tokensOf = ({ tools }: AgentTemplate) => tools.flatMap(({ authTokens }) => Object.values(authTokens ?? {}));
