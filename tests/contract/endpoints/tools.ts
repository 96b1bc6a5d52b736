import { newId } from "../../../db/ids.ts";
import type { TestApp } from "../../support/app.ts";
import { type ModuleInputs, page } from "./resource.ts";

let count = 0;
/** Each tool has a unique name. */
const name = () => `lookup_${++count}`;

const answering = { timeoutSeconds: 5, reaction: "speaks", staticResponse: "One moment." };

/** No server listens there: that is also a valid test result. */
export const definition = {
  type: "http",
  url: "http://127.0.0.1:1/orders/{orderId}",
  method: "POST",
  parameters: [
    { name: "orderId", in: "path", description: "As on the receipt.", schema: { type: "string" }, required: true },
    { name: "city", in: "body", description: "", schema: { type: "string", maxLength: 40 }, required: false },
  ],
  staticParameters: [{ name: "source", in: "query", value: "voice" }],
  automaticParameters: [{ name: "x-call", in: "header", value: "call_id" }],
  auth: { type: "header", name: "x-api-key", credential: "custom-doors" },
  ...answering,
};

// The description comes first: it can change to any other text, a name cannot.
const whole = () => ({ description: "Finds an order.", name: name(), definition, metadata: { team: "desk" } });

/** The secret that the tool sends. */
async function keepCredential(h: TestApp, clientId: string): Promise<void> {
  const id = newId("credential");
  const ring = await h.deps.providers.vault.keys(clientId, "provider_credential");
  const sealed = ring.seal(JSON.stringify({ value: "a-secret-of-the-doors" }), id);
  await h.owner`insert into credentials (client_id, id, provider, prefix, sealed)
    values (${clientId}, ${id}, 'custom-doors', 'a-sec', ${sealed})`;
}

export const tools: ModuleInputs = {
  async createResources({ h, who }) {
    await keepCredential(h, who.clientId);
    const made = await h.post("/tools", whole(), { key: who.key });
    return { tool: made.body.data.id };
  },
  inputs: {
    "tools.create": whole,
    "tools.get": ({ own }) => ({ id: own.tool }),
    "tools.list": () => ({
      ...page,
      kind: "http",
      status: "active",
      search: "lookup_",
      metadata: {},
      createdAfter: "2020-01-01T00:00:00.000Z",
      createdBefore: "2099-01-01T00:00:00.000Z",
    }),
    "tools.update": ({ own }) => ({ id: own.tool, ...whole() }),
    "tools.remove": async ({ h, who }) => ({
      id: (await h.post("/tools", whole(), { key: who.key })).body.data.id,
      force: true,
    }),
    "tools.test": ({ own }) => ({
      id: own.tool,
      parameters: { orderId: "10248", city: "Oslo" },
      samples: { callId: "a-call", callState: {}, callMetadata: { order: "1" } },
    }),
  },
};
