import { startCall } from "./call-lifecycle.ts";
import { checkLimits } from "./limits.ts";
import { page, sortByCreation } from "./page.ts";
import { stream } from "./random.ts";
import {
  AgentChange,
  type CallTemplate,
  NewAgent,
  parse,
  Refusal,
  StartAgentCall,
  type TemplateChange,
} from "./requests.ts";
import { own, ownedBy, type Reply, type Route, type SimulatorRequest } from "./route.ts";
import { type Agent, nextThing } from "./state.ts";
import { checkContextSchema, deriveContextSchema, fillTemplate } from "./template.ts";
import { agentView, callView } from "./views.ts";

export const agentRoutes: Route[] = [
  { method: "GET", template: "/api/agents", kind: "read", resource: "agents", handle: listAgents },
  { method: "POST", template: "/api/agents", kind: "create", resource: "agents", handle: createAgent },
  { method: "GET", template: "/api/agents/{agent_id}", kind: "read", resource: "agents", handle: getAgent },
  { method: "PATCH", template: "/api/agents/{agent_id}", kind: "change", resource: "agents", handle: updateAgent },
  { method: "DELETE", template: "/api/agents/{agent_id}", kind: "change", resource: "agents", handle: removeAgent },
  { method: "GET", template: "/api/agents/{agent_id}/calls", kind: "read", resource: "calls", handle: listAgentCalls },
  {
    method: "POST",
    template: "/api/agents/{agent_id}/calls",
    kind: "create",
    resource: "calls",
    handle: startAgentCall,
  },
];

function listAgents({ world, account, query, address }: SimulatorRequest): Reply {
  const search = query.get("search")?.toLowerCase() ?? "";
  const found = ownedBy(world.agents, account).filter((agent) => agent.name.toLowerCase().includes(search));
  return { status: 200, body: page(sortByCreation(found, query), { query, address }, agentView) };
}

function createAgent({ world, account, body }: SimulatorRequest): Reply {
  const { name, callTemplate } = parse(NewAgent, body);
  const { ordinal, random } = nextThing(world, "agent");
  const agent: Agent = {
    id: random.uuid(),
    ordinal,
    account: account.id,
    name: name ?? `agent-${ordinal}`,
    created: Date.now(),
    revision: random.uuid(),
    ...withSchema(callTemplate ?? {}, callTemplate?.contextSchema === undefined),
    calls: 0,
  };
  world.agents.set(agent.id, agent);
  return { status: 201, body: agentView(agent) };
}

function getAgent(simulatorRequest: SimulatorRequest): Reply {
  return { status: 200, body: agentView(own(simulatorRequest.world.agents, simulatorRequest)) };
}

function updateAgent(simulatorRequest: SimulatorRequest): Reply {
  const agent = own(simulatorRequest.world.agents, simulatorRequest);
  const { name, callTemplate } = parse(AgentChange, simulatorRequest.body);
  const merged = callTemplate === null ? {} : merge(agent.callTemplate, callTemplate ?? {});
  const derived = callTemplate?.contextSchema === undefined ? agent.derivedSchema : callTemplate.contextSchema === null;
  Object.assign(agent, withSchema(merged, derived || merged.contextSchema === undefined));
  agent.name = name ?? agent.name;
  agent.revision = stream(simulatorRequest.world.seed, "revision", agent.revision).uuid();
  return { status: 200, body: agentView(agent) };
}

/** Merges field by field. A list is replaced whole, null clears a field, and one kind of voice replaces the other. */
function merge(template: CallTemplate, change: TemplateChange): CallTemplate {
  const { voice, externalVoice, voiceOverrides, ...rest } = template;
  const voices = change.voice || change.externalVoice ? {} : { voice, externalVoice, voiceOverrides };
  const fields = Object.entries({ ...rest, ...voices, ...change });
  return Object.fromEntries(fields.filter(([, value]) => value !== null && value !== undefined));
}

function withSchema(callTemplate: CallTemplate, derivedSchema: boolean) {
  const contextSchema = derivedSchema ? deriveContextSchema(callTemplate) : callTemplate.contextSchema;
  if (contextSchema) checkContextSchema(contextSchema);
  return { callTemplate: { ...callTemplate, contextSchema }, derivedSchema };
}

function removeAgent(simulatorRequest: SimulatorRequest): Reply {
  simulatorRequest.world.agents.delete(own(simulatorRequest.world.agents, simulatorRequest).id);
  return { status: 204 };
}

function listAgentCalls(simulatorRequest: SimulatorRequest): Reply {
  const agent = own(simulatorRequest.world.agents, simulatorRequest);
  const calls = ownedBy(simulatorRequest.world.calls, simulatorRequest.account).filter(
    (call) => call.agent?.agentId === agent.id,
  );
  return {
    status: 200,
    body: page(sortByCreation(calls, new URLSearchParams()), simulatorRequest, (call) => callView(call)),
  };
}

function startAgentCall(simulatorRequest: SimulatorRequest): Reply {
  const { world, account, origin } = simulatorRequest;
  const agent = own(world.agents, simulatorRequest);
  const {
    templateContext = {},
    toolOverrides: _tools,
    agentId: _agent,
    ...overrides
  } = parse(StartAgentCall, simulatorRequest.body);
  if (overrides.voiceOverrides && !overrides.voice) {
    throw new Refusal(400, { voiceOverrides: ["Only valid together with voice."] });
  }
  const request = fillTemplate(agent.callTemplate, overrides, templateContext);
  checkLimits(world, account);
  const call = startCall(world, account, { request, agent, joinHost: new URL(origin).host });
  return { status: 201, body: callView(call), delaySeconds: call.behaviour.answersAfterSeconds ?? 0 };
}
