import type { Send } from "./resources.ts";

const carriers = {
  twilio: { accountSid: "AC0123456789", authToken: "twilio-secret-0123456789" },
  telnyx: {
    accountSid: "telnyx-account",
    apiKey: "KEY0123456789abcdef",
    publicKey: "e0123456789abcdef=",
    applicationSid: "1234567890",
  },
  plivo: { authId: "MA0123456789", authToken: "plivo-secret-0123456789" },
};

export async function telephony(ask: Send): Promise<void> {
  const { body: agent } = await ask<{ agentId: string }>("POST", "/api/agents", { name: "agent_sip" });
  await ask("GET", "/api/sip");
  const allowedAgents = [{ agentId: agent.agentId, toUserPattern: "^\\+?4930123456$" }];
  await ask("PATCH", "/api/sip", { allowedAgents, allowedCidrRanges: ["192.0.2.0/24"] });
  const made = await ask<{ registrationId: string }>("POST", "/api/sip/registrations", {
    username: "reception",
    password: "sip-secret",
    proxy: "sip.example.com",
    authUser: "reception",
  });
  const path = `/api/sip/registrations/${made.body.registrationId}`;
  await ask("GET", "/api/sip/registrations");
  await ask("GET", path);
  await ask("PATCH", path, { outboundProxy: "edge.example.com" });
  await ask("DELETE", path);
  for (const [name, fields] of Object.entries(carriers)) {
    const config = `/api/telephony_configs/${name}`;
    await ask("POST", config, fields);
    await ask("GET", config);
    await ask("PATCH", config, { callCreationAllowAllAgents: true });
    await ask("DELETE", config);
  }
}
