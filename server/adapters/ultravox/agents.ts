import type { AgentTemplate, UltravoxAgents } from "../../../routers/ports/ultravox.ts";
import { UltravoxAgent } from "./agent.ts";
import { json, type UltravoxClient, unless } from "./http-client.ts";
import { templateBody, templateDifferences } from "./template.ts";

export function agentsOf({ request, listAll, remove }: UltravoxClient): UltravoxAgents {
  return {
    createAgent: (accountId, { id, template }, deadline) =>
      request(
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
      request(
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
      const list = { path: "/api/agents", query: { search: agentId }, item: UltravoxAgent, about: [agentId] };
      return (await listAll(accountId, list, deadline)).filter((agent) => agent.name === agentId);
    },

    /** Fields that the provider does not return cannot differ. */
    differences: ({ callTemplate }, template) => (callTemplate ? templateDifferences(callTemplate, template) : []),

    getAgent(accountId, providerAgentId, deadline) {
      const path = `/api/agents/${encodeURIComponent(providerAgentId)}`;
      const reading = request(
        accountId,
        { method: "GET", repeat: "safe", path, read: json(UltravoxAgent).from },
        deadline,
      );
      return unless(404, null, reading);
    },

    deleteAgent: (accountId, providerAgentId, deadline) =>
      remove(accountId, `/api/agents/${encodeURIComponent(providerAgentId)}`, deadline),
  };
}

/** Masked in error messages. */
const tokensOf = ({ tools }: AgentTemplate) => tools.flatMap(({ authTokens }) => Object.values(authTokens ?? {}));
