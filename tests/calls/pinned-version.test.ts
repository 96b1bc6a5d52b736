import { expect, test } from "vitest";
import { phone, startTestApp } from "../support/app.ts";
import { makeAgent } from "../support/calls.ts";

const h = await startTestApp({ credits: 1_000 });

type Placed = { method: string; path: string; body?: Record<string, unknown> & { metadata?: { callId?: string } } };

async function providerRequestOf(callId: string) {
  const { requests } = (await h.simulator.requests()) as { requests: Placed[] };
  return requests.find(
    ({ method, path, body }) => method === "POST" && path === "/api/calls" && body?.metadata?.callId === callId,
  );
}

test("a call of an older version has every message and limit of that version", async () => {
  const first = {
    systemPrompt: "You are the first.",
    greeting: "Hello!",
    timeExceededMessage: "Time is up, {{name}}.",
    // biome-ignore lint/suspicious/noThenProperty: a field of the API; a message is never awaited
    inactivityMessages: [{ afterSeconds: 10, message: "Are you there?", then: "nothing" }],
    maxDurationSeconds: 240,
    joinTimeoutSeconds: 25,
    temperature: 0.3,
  };
  const agentId = await makeAgent(h, first);
  await h.patch(`/agents/${agentId}`, {
    ...{ systemPrompt: "You are the second.", greeting: "Hi!", timeExceededMessage: null, inactivityMessages: [] },
    ...{ maxDurationSeconds: 60, joinTimeoutSeconds: 40, temperature: 0.9 },
  });
  const { status, body } = await h.post("/calls", {
    ...{ agentId, agentVersion: 1, medium: phone("+14155550100"), variables: { name: "Ada" } },
  });
  expect([status, body]).toMatchObject([201, { data: { agentVersion: 1 } }]);
  const placed = await providerRequestOf(body.data.id);
  expect(placed?.body).toMatchObject({
    systemPrompt: "You are the first.",
    timeExceededMessage: "Time is up, Ada.",
    inactivityMessages: [{ duration: "10s", message: "Are you there?" }],
    maxDuration: "240s",
    joinTimeout: "25s",
    temperature: 0.3,
  });
});
