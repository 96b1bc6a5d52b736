import { randomUUID } from "node:crypto";
import { z } from "zod";
import { activeCalls, billCall, endCall, joinCall, millis, reached, startCall } from "./call-lifecycle.ts";
import { FaultPlan } from "./faults.ts";
import { isEnding, NUMBERS } from "./numbers.ts";
import { parse, Refusal, WebhookEvent } from "./requests.ts";
import type { Reply, Route, SimulatorRequest } from "./route.ts";
import { type Call, elapsed, resetWorld } from "./state.ts";
import { callView, webhookView } from "./views.ts";
import { dropHeld, releaseAllHeld, resend } from "./webhooks.ts";

/** The admin endpoints of the simulator: faults, inspection, and control of calls. They need no API key. */
export const adminRoutes: Route[] = (
  [
    ["GET", "/_sim/state", getState],
    ["GET", "/_sim/requests", listRequests],
    ["GET", "/_sim/numbers", listNumbers],
    ["GET", "/_sim/faults", ({ world }) => ({ status: 200, body: world.faults })],
    ["PUT", "/_sim/faults", putFaults],
    ["POST", "/_sim/reset", reset],
    ["POST", "/_sim/inbound", startInbound],
    ["POST", "/_sim/webhooks/resend", resendWebhook],
    ["POST", "/_sim/calls/{call_id}/join", drive((request, call) => joinCall(request.world, call))],
    ["POST", "/_sim/calls/{call_id}/end", drive(endByHand)],
    ["POST", "/_sim/calls/{call_id}/tool", drive(useTool)],
    ["POST", "/_sim/calls/{call_id}/bill", drive((request, call) => billCall(request.world, call))],
  ] satisfies [string, string, Route["handle"]][]
).map(([method, template, handle]) => ({ method, template, resource: "other", handle }));

function getState({ world, query }: SimulatorRequest): Reply {
  const { counts } = world;
  const callId = query.get("callId");
  const byCallId = [...counts.acceptedByCallId].filter(([id]) => callId === null || id === callId);
  const body = {
    seed: world.seed,
    speed: world.speed,
    accepted: {
      total: [...counts.accepted.values()].reduce((sum, count) => sum + count, 0),
      byAccount: Object.fromEntries(counts.accepted),
      byCallId: Object.fromEntries(byCallId),
    },
    activeCalls: Object.fromEntries(world.accounts.map(({ id }) => [id, activeCalls(world, id)])),
    calls: world.calls.size,
    agents: world.agents.size,
    requests: Object.fromEntries(counts.requests),
    webhooks: {
      ...counts.webhooks,
      endpoints: [...world.webhooks.values()].map((webhook) => {
        const { secrets: _, ...shown } = webhookView(webhook);
        return { account: webhook.account, ...shown };
      }),
    },
  };
  return { status: 200, body };
}

function listNumbers(): Reply {
  return { status: 200, body: Object.fromEntries(Object.entries(NUMBERS).map(([ending, { what }]) => [ending, what])) };
}

function listRequests({ world }: SimulatorRequest): Reply {
  return { status: 200, body: { requests: world.log } };
}

function putFaults({ world, body }: SimulatorRequest): Reply {
  const plan = parse(FaultPlan, body);
  releaseAllHeld(world);
  world.faults = plan;
  return { status: 200, body: plan };
}

function reset({ world }: SimulatorRequest): Reply {
  resetWorld(world);
  dropHeld(world);
  return { status: 204 };
}

function callOf({ world, id }: Pick<SimulatorRequest, "world" | "id">): Call {
  const call = world.calls.get(id);
  if (!call) throw new Refusal(404, "Not found.");
  return call;
}

function drive(move: (request: SimulatorRequest, call: Call) => void): Route["handle"] {
  return (request) => {
    const call = callOf(request);
    move(request, call);
    return { status: 200, body: callView(call) };
  };
}

/** Any text: a provider may send a value that we do not know yet. */
const End = z.strictObject({ endReason: z.string().min(1).max(100).default("hangup") });

/** A call that is still ringing ends as unjoined, whatever the given reason. */
function endByHand({ world, body }: SimulatorRequest, call: Call): void {
  endCall(world, call, parse(End, body).endReason);
}

const ToolUse = z.strictObject({
  name: z.string().min(1),
  arguments: z.unknown().default({}),
  result: z.string().default("OK"),
  /** The call state that the tool returns. */
  state: z.record(z.string(), z.unknown()).optional(),
});

/** The agent of a joined call uses a tool, after the planned conversation. */
function useTool({ world, body }: SimulatorRequest, call: Call): void {
  const { name, arguments: given, result, state } = parse(ToolUse, body);
  if (call.joinedAt === null || call.endedAt !== null) throw new Refusal(409, "The call is not joined.");
  const at = Math.max(0, millis(elapsed(world, call)) - call.joinedAt);
  const tool = { name, invocationId: randomUUID() };
  const line = { start: at, end: at, medium: "VOICE", tool } as const;
  call.lines = call.lines.filter(({ start }) => start <= at);
  call.lines.push({ ...line, role: "TOOL_CALL", text: JSON.stringify(given) });
  call.lines.push({ ...line, role: "TOOL_RESULT", text: result, ...(state && { state }) });
}

const Inbound = z.strictObject({
  accountId: z.string().optional(),
  agentId: z.string().optional(),
  from: z.string().default("+15550100000"),
  /** The dialled number. The caller's PBX sends it in its own header; a carrier sends it where it was configured to. */
  to: z.string().optional(),
  metadata: z.record(z.string(), z.string()).optional(),
  /** An entry of the table of numbers, by its last four digits: how the call continues. */
  ending: z.string().refine(isEnding, "No such number in the table of numbers.").optional(),
  medium: z.enum(["sip", "twilio", "telnyx", "plivo"]).default("sip"),
  recordingEnabled: z.boolean().optional(),
});

/** A call that this installation did not place. */
function startInbound({ world, body, origin }: SimulatorRequest): Reply {
  const input = parse(Inbound, body);
  const account = world.accounts.find(({ id }) => input.accountId === undefined || id === input.accountId);
  if (!account) throw new Refusal(404, "No such account.");
  const agent = input.agentId === undefined ? undefined : world.agents.get(input.agentId);
  if (input.agentId !== undefined && agent?.account !== account.id) throw new Refusal(404, "No such agent.");
  const call = startCall(world, account, {
    request: {
      recordingEnabled: input.recordingEnabled ?? agent?.callTemplate.recordingEnabled ?? false,
      systemPrompt: agent?.callTemplate.systemPrompt,
      metadata: {
        ...input.metadata,
        "ultravox.sip.caller_id": input.from,
        ...(input.to === undefined ? {} : { "ultravox.sip.header.did": input.to }),
      },
    },
    medium: input.medium === "sip" ? { sip: { incoming: {} } } : { [input.medium]: {} },
    behaviour: input.ending === undefined ? undefined : NUMBERS[input.ending],
    agent,
    joinHost: new URL(origin).host,
  });
  return { status: 201, body: callView(call) };
}

const Resend = z.strictObject({
  callId: z.string(),
  event: WebhookEvent,
  timestampOffsetSeconds: z.number().default(0),
  times: z.int().min(1).max(1000).default(1),
  secret: z.string().optional(),
});

async function resendWebhook({ world, body }: SimulatorRequest): Promise<Reply> {
  const { callId, event, ...options } = parse(Resend, body);
  const call = callOf({ world, id: callId });
  if (!reached(call, event)) throw new Refusal(409, `The call has not reached ${event}.`);
  return { status: 200, body: { attempts: await resend(world, call, event, options) } };
}
