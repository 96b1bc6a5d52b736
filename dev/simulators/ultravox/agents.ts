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
import { type Asked, own, ownedBy, type Reply, type Route } from "./route.ts";
import { type Agent, nextThing } from "./state.ts";
import { checkContextSchema, deriveContextSchema, fillTemplate } from "./template.ts";
import { agentView, callView } from "./views.ts";

export const agentRoutes: Route[] = [
  { method: "GET", template: "/api/agents", kind: "read", noun: "agents", handle: listAgents },
  { method: "POST", template: "/api/agents", kind: "create", noun: "agents", handle: createAgent },
  { method: "GET", template: "/api/agents/{agent_id}", kind: "read", noun: "agents", handle: getAgent },
  { method: "PATCH", template: "/api/agents/{agent_id}", kind: "change", noun: "agents", handle: updateAgent },
  { method: "DELETE", template: "/api/agents/{agent_id}", kind: "change", noun: "agents", handle: removeAgent },
  { method: "GET", template: "/api/agents/{agent_id}/calls", kind: "read", noun: "calls", handle: listAgentCalls },
  { method: "POST", template: "/api/agents/{agent_id}/calls", kind: "create", noun: "calls", handle: startAgentCall },
];

function listAgents({ world, account, query, address }: Asked): Reply {
  const search = query.get("search")?.toLowerCase() ?? "";
  const found = ownedBy(world.agents, account).filter((agent) => agent.name.toLowerCase().includes(search));
  return { status: 200, body: page(sortByCreation(found, query), { query, address }, agentView) };
}

function createAgent({ world, account, body }: Asked): Reply {
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

function getAgent(asked: Asked): Reply {
  return { status: 200, body: agentView(own(asked.world.agents, asked)) };
}

function updateAgent(asked: Asked): Reply {
  const agent = own(asked.world.agents, asked);
  const { name, callTemplate } = parse(AgentChange, asked.body);
  const merged = callTemplate === null ? {} : merge(agent.callTemplate, callTemplate ?? {});
  const derived = callTemplate?.contextSchema === undefined ? agent.derivedSchema : callTemplate.contextSchema === null;
  Object.assign(agent, withSchema(merged, derived || merged.contextSchema === undefined));
  agent.name = name ?? agent.name;
  agent.revision = stream(asked.world.seed, "revision", agent.revision).uuid();
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

function removeAgent(asked: Asked): Reply {
  asked.world.agents.delete(own(asked.world.agents, asked).id);
  return { status: 204 };
}

function listAgentCalls(asked: Asked): Reply {
  const agent = own(asked.world.agents, asked);
  const calls = ownedBy(asked.world.calls, asked.account).filter((call) => call.agent?.agentId === agent.id);
  return { status: 200, body: page(sortByCreation(calls, new URLSearchParams()), asked, (call) => callView(call)) };
}

function startAgentCall(asked: Asked): Reply {
  const { world, account, origin } = asked;
  const agent = own(world.agents, asked);
  const {
    templateContext = {},
    toolOverrides: _tools,
    agentId: _agent,
    ...overrides
  } = parse(StartAgentCall, asked.body);
  if (overrides.voiceOverrides && !overrides.voice) {
    throw new Refusal(400, { voiceOverrides: ["Only valid together with voice."] });
  }
  const request = fillTemplate(agent.callTemplate, overrides, templateContext);
  checkLimits(world, account);
  const call = startCall(world, account, { request, agent, joinHost: new URL(origin).host });
  return { status: 201, body: callView(call), delaySeconds: call.behaviour.answersAfterSeconds ?? 0 };
}
