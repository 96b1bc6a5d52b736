import { afterEach, describe, expect, test } from "vitest";
import { agent, startTestApp, type TestResponse, until } from "../support/app.ts";
import { type CallRow, callRow, makeAgent } from "../support/calls.ts";
import { assign } from "../support/numbers.ts";

const h = await startTestApp({ workers: true });
afterEach(() => h.simulator.faults({}));

const refusal = ({ status, body }: TestResponse) => {
  const [detail] = body.error?.details ?? [];
  return [status, body.error?.code, detail?.id ?? detail?.path];
};
let made = 0;

/** A tool with a variable in a static parameter. */
async function makeTool(value: string, place: "query" | "header" = "query", more: object = {}) {
  const staticParameters = [{ name: "customer", in: place, value }];
  const definition = { type: "http", url: "https://example.com/orders", method: "GET", staticParameters };
  const answer = await h.post("/tools", { name: `tool_${++made}`, description: "Looks up.", definition, ...more });
  expect(answer.status).toBe(201);
  return { id: answer.body.data.id as string, definition };
}
const place = (agentId: string, more: object = {}) => h.post("/calls", { agentId, medium: { type: "web" }, ...more });
const upstreamOf = async (id: string) => {
  const response = await fetch(`${h.simulator.url}/api/agents?search=${id}`, {
    headers: { "x-api-key": h.env.ULTRAVOX_API_KEY },
  });
  // biome-ignore lint/suspicious/noExplicitAny: the provider's own format, to be inspected
  return ((await response.json()) as { results: any[] }).results[0];
};

describe("a variable in a tool", () => {
  test("is a variable of the agent that uses the tool: a call can and must give it", async () => {
    const tool = await makeTool("{{customer_id}}");
    const id = await makeAgent(h, { tools: [{ toolId: tool.id }] });
    expect(refusal(await place(id))).toEqual([400, "input_invalid", "variables.customer_id"]);
    expect((await place(id, { variables: { customer_id: "c-1" } })).status).toBe(201);
    expect((await upstreamOf(id)).callTemplate.contextSchema.required).toEqual(["customer_id"]);
  });

  test("counts in every place that the provider fills in: the tool's description and the fixed parameters of a builtin", async () => {
    const described = await makeTool("x", "query", { description: "Looks up {{a}}." });
    const definition = { type: "builtin", name: "leaveVoicemail", parameterOverrides: { message: "Hi {{b}}" } };
    const builtin = (await h.post("/tools", { name: "leave", description: "Leaves {{c}}.", definition })).body.data;
    const id = await makeAgent(h, { tools: [{ toolId: described.id }, { toolId: builtin.id }] });
    const answer = await place(id);
    expect(answer.body.error.details.map(({ path }: { path: string }) => path)).toEqual(
      ["a", "c", "b"].map((name) => `variables.${name}`),
    );
    // The agent's description replaces the tool's own.
    const instead = [
      { toolId: described.id, description: "Looks up." },
      { toolId: builtin.id, description: "Leaves.", parameterOverrides: { message: "Hi" } },
    ];
    expect((await h.patch(`/agents/${id}`, { tools: instead })).status).toBe(200);
    expect((await place(id)).status).toBe(201);
  });

  test("must be declared by an agent that declares any, and the error names the agent's field", async () => {
    const tool = await makeTool("{{customer_id}}");
    const more = { tools: [{ toolId: tool.id }], variables: [{ name: "name" }] };
    const refused = await h.post("/agents", { ...agent, ...more });
    expect(refusal(refused)).toEqual([400, "input_invalid", "tools.0.toolId"]);
    expect(refused.body.error.message).toContain("{{customer_id}}");
    const variables = [{ name: "name" }, { name: "customer_id", required: false }];
    const id = await makeAgent(h, { ...more, variables });
    expect((await place(id, { variables: { name: "Ada" } })).status).toBe(201);
  });

  test("that a tool uses later is required from then on, even if the agent declares others", async () => {
    const tool = await makeTool("fixed");
    const id = await makeAgent(h, { tools: [{ toolId: tool.id }], variables: [{ name: "n", required: false }] });
    expect((await place(id)).status).toBe(201);
    const staticParameters = [{ name: "customer", in: "query", value: "{{customer_id}}" }];
    const changed = await h.patch(`/tools/${tool.id}`, { definition: { ...tool.definition, staticParameters } });
    expect(changed.status).toBe(200);
    expect(refusal(await place(id))).toEqual([400, "input_invalid", "variables.customer_id"]);
    await until(async () => (await upstreamOf(id)).callTemplate.contextSchema.required.includes("customer_id"));
    expect((await place(id, { variables: { customer_id: "1" } })).status).toBe(201);
    expect((await h.patch(`/agents/${id}`, { name: "Another name" })).status).toBe(200);
  });

  test("is filled in by us in a call of an older version, which the provider places without the agent", async () => {
    const tool = await makeTool("id-{{customer_id}}");
    const id = await makeAgent(h, { tools: [{ toolId: tool.id }], greeting: "Hello {{customer_id}}" });
    await h.patch(`/agents/${id}`, { temperature: 0.5 });
    expect((await place(id, { agentVersion: 1, variables: { customer_id: "7" } })).status).toBe(201);
    const { requests } = await h.simulator.requests();
    const { body } = requests.findLast(({ path }: { path: string }) => path === "/api/calls");
    expect(body.selectedTools[0].temporaryTool.staticParameters).toMatchObject([{ name: "customer", value: "id-7" }]);
    expect(JSON.stringify(body)).not.toContain("{{");
    expect(body.firstSpeakerSettings).toMatchObject({ agent: { text: "Hello 7" } });
  });

  test("in a header must be one line, or the call is refused", async () => {
    const tool = await makeTool("{{customer_id}}", "header");
    const id = await makeAgent(h, { tools: [{ toolId: tool.id }] });
    const evil = await place(id, { variables: { customer_id: "1\r\nx-evil: 2" } });
    expect(refusal(evil)).toEqual([400, "input_invalid", "variables.customer_id"]);
  });

  test("with an invalid name is refused when the tool is saved", async () => {
    const staticParameters = [{ name: "customer", in: "query", value: "{{#each}}" }];
    const definition = { type: "http", url: "https://example.com", method: "GET", staticParameters };
    const answer = await h.post("/tools", { name: "odd", description: "x", definition });
    expect(refusal(answer)).toEqual([400, "input_invalid", "definition.staticParameters.0.value"]);
  });
});

describe("an inbound route", () => {
  let numbers = 0;
  async function number(): Promise<string> {
    const pattern = `+49307000${++numbers}`;
    await assign(h, h.ada.clientId, pattern);
    return pattern;
  }
  const route = async (agentId: string, more: object = {}) =>
    h.post("/telephony/routes", { pattern: await number(), agentId, ...more });
  const stateOf = async (id: string) => (await h.get(`/telephony/routes/${id}`)).body.data;

  test("cannot lead to an agent that needs variables, also those of its tools, unless they have defaults", async () => {
    const tool = await makeTool("{{customer_id}}");
    for (const more of [{ systemPrompt: "You speak with {{name}}." }, { tools: [{ toolId: tool.id }] }]) {
      const refused = await route(await makeAgent(h, more));
      expect(refusal(refused)).toEqual([409, "agent_variables_required", "agentId"]);
    }
    const off = await route(await makeAgent(h, { systemPrompt: "{{name}}" }), { enabled: false });
    expect(off.status).toBe(201);
    const on = await h.patch(`/telephony/routes/${off.body.data.id}`, { enabled: true });
    expect(refusal(on)).toEqual([409, "agent_variables_required", "agentId"]);
    const variables = [{ name: "name", default: "you" }];
    const fine = await route(await makeAgent(h, { systemPrompt: "You speak with {{name}}.", variables }));
    await until(async () => (await stateOf(fine.body.data.id)).status === "live");
  });

  test("blocks a change after which its agent needs variables; a tool's change is possible, and the route then shows the problem", async () => {
    const tool = await makeTool("fixed");
    const id = await makeAgent(h, { tools: [{ toolId: tool.id }] });
    const { id: routeId } = (await route(id)).body.data;
    await until(async () => (await stateOf(routeId)).status === "live");
    const refused = await h.patch(`/agents/${id}`, { systemPrompt: "You speak with {{name}}." });
    expect(refusal(refused)).toEqual([409, "agent_variables_required", routeId]);
    const staticParameters = [{ name: "customer", in: "query", value: "{{customer_id}}" }];
    await h.patch(`/tools/${tool.id}`, { definition: { ...tool.definition, staticParameters } });
    await until(async () => (await stateOf(routeId)).status === "failed");
    expect((await stateOf(routeId)).statusReason).toContain("customer_id");
    await h.patch(`/tools/${tool.id}`, { definition: tool.definition });
    await h.patch(`/tools/${tool.id}`, { definition: { ...tool.definition, staticParameters: [] } });
    await until(async () => (await stateOf(routeId)).status === "live");
  });

  test("blocks the deletion of its agent, unless forced, and the error names the route", async () => {
    const id = await makeAgent(h);
    const { id: routeId } = (await route(id)).body.data;
    expect(refusal(await h.remove(`/agents/${id}`))).toEqual([409, "agent_in_use", routeId]);
    expect((await h.remove(`/agents/${id}?force=true`)).status).toBe(204);
    await until(async () => (await stateOf(routeId)).status === "failed");
    const spare = await makeAgent(h);
    await route(spare, { enabled: false });
    expect((await h.remove(`/agents/${spare}`)).status).toBe(204);
  });
});

test("an agent whose voice and tool were deleted by force can be renamed and changed, and works without them", async () => {
  const tool = await makeTool("x");
  const source = {
    type: "external",
    provider: "generic",
    generic: { url: "https://tts.example.com", body: { t: "{text}" } },
  };
  const voiceId = (await h.post("/voices", { name: "V", source })).body.data.id;
  await until(async () => (await h.get(`/voices/${voiceId}`)).body.data.status === "active");
  const id = await makeAgent(h, { voiceId, tools: [{ toolId: tool.id }] });
  for (const path of [`/voices/${voiceId}`, `/tools/${tool.id}`])
    expect((await h.remove(`${path}?force=true`)).status).toBe(204);
  const patient = async (change: object) =>
    until(async () => {
      const answer = await h.patch(`/agents/${id}`, change);
      return answer.body.error?.code !== "agent_busy" && answer;
    });
  expect((await patient({ name: "Night" })).body.data).toMatchObject({ name: "Night", voiceId });
  expect((await patient({ greeting: "Late." })).status).toBe(200);
  expect(refusal(await patient({ voiceId: null }))[0]).toBe(200);
  expect(refusal(await patient({ voiceId }))).toEqual([404, "voice_not_found", "voiceId"]);
});

describe("an inbound call", () => {
  const ring = async (agentId: string, more: object): Promise<CallRow & Record<string, unknown>> => {
    const [row] = await h.owner`select provider_agent_id from agents where id = ${agentId}`;
    const input = { accountId: "platform", agentId: row!.provider_agent_id, ending: "0010", ...more };
    const { callId } = await h.simulator.control("inbound", input);
    const id = await until(async () => {
      const [call] = await h.owner`select id from calls where provider_call_id = ${callId}`;
      return (call?.id as string | undefined) ?? null;
    });
    return { ...(await callRow(h, id)), ...(await h.get(`/calls/${id}`)).body.data };
  };

  test.each([
    ["525588902311", "+525588902311", "known"],
    ["+14155550142", "+14155550142", "known"],
    ["00442071838750", "+442071838750", "known"],
    ["sip:+14155550142@pbx.example.com;user=phone", "+14155550142", "known"],
    ["+1 (415) 555-0142", "+14155550142", "known"],
    ["anonymous", null, "withheld"],
    ["Restricted", null, "withheld"],
    ["sip:anonymous@anonymous.invalid", null, "withheld"],
    ["+266696687", null, "withheld"],
    ["unavailable", null, "unreadable"],
    ["100", null, "unreadable"],
  ])("stores the caller as the line reported it: %s", async (from, number, fromStatus) => {
    expect(await ring(await makeAgent(h), { from })).toMatchObject({ from: number, fromStatus, fromRaw: from });
  });

  test("shows the called number: the only number that leads to its agent, or the line's value", async () => {
    const id = await makeAgent(h);
    expect(await ring(id, { to: "+4930555000" })).toMatchObject({ to: "+4930555000", toRaw: "+4930555000" });
    await assign(h, h.ada.clientId, "+493012345678");
    await h.post("/telephony/routes", { pattern: "+493012345678", agentId: id });
    // A national number belongs to the country that was called.
    const call = await ring(id, { from: "03012345600" });
    expect(call).toMatchObject({ to: "+493012345678", toRaw: null, from: "+493012345600", fromRaw: "03012345600" });
  });
});
