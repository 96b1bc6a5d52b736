import type { CallEndpoints } from "./resources.ts";

/** A tool with every field of a definition, and one of the other kind. */
const definition = {
  modelToolName: "lookup_order",
  description: "Finds an order.",
  dynamicParameters: [
    {
      name: "orderId",
      location: "PARAMETER_LOCATION_PATH",
      schema: { type: "string", description: "As on the receipt." },
      required: true,
    },
  ],
  staticParameters: [{ name: "source", location: "PARAMETER_LOCATION_QUERY", value: "voice" }],
  automaticParameters: [{ name: "callId", location: "PARAMETER_LOCATION_HEADER", knownValue: "KNOWN_PARAM_CALL_ID" }],
  requirements: {
    httpSecurityOptions: { options: [{ requirements: { credential: { httpAuth: { scheme: "Bearer" } } } }] },
  },
  timeout: "20s",
  http: { baseUrlPattern: "https://api.example.com/orders/{orderId}", httpMethod: "GET" },
  defaultReaction: "AGENT_REACTION_SPEAKS",
  staticResponse: { responseText: "One moment." },
};

export const tools: CallEndpoints = async (ask) => {
  const { body: made } = await ask<{ toolId: string }>("POST", "/api/tools", { name: "tool_1", definition });
  const path = `/api/tools/${made.toolId}`;
  await ask("GET", path);
  await ask("GET", "/api/tools?search=tool_1&ownership=private&sortOrder=chronologic&pageSize=5");
  const client = { modelToolName: "show", description: "Shows a page.", client: {} };
  await ask("PUT", path, { name: "tool_1", definition: client });
  await ask("DELETE", path);
};
