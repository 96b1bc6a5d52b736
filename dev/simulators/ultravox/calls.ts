import { endCall, forgetCall, millis, startCall } from "./call-lifecycle.ts";
import { checkLimits } from "./limits.ts";
import { page, sortByCreation } from "./page.ts";
import { recordingOf } from "./recording.ts";
import { DataMessage, parse, Refusal, StartCall, seconds } from "./requests.ts";
import { own, ownedBy, type Reply, type Route, type SimulatorRequest } from "./route.ts";
import { type Call, elapsed } from "./state.ts";
import { callView, durationOf, messagesView } from "./views.ts";

const message = "/api/calls/{call_id}/send_data_message";

export const callRoutes: Route[] = [
  { method: "GET", template: "/api/calls", kind: "read", resource: "calls", handle: listCalls },
  { method: "POST", template: "/api/calls", kind: "create", resource: "calls", handle: createCall },
  { method: "GET", template: "/api/calls/{call_id}", kind: "read", resource: "calls", handle: getCall },
  { method: "DELETE", template: "/api/calls/{call_id}", kind: "change", resource: "calls", handle: removeCall },
  { method: "GET", template: "/api/calls/{call_id}/messages", kind: "read", resource: "calls", handle: listMessages },
  { method: "GET", template: "/api/calls/{call_id}/recording", kind: "read", resource: "calls", handle: getRecording },
  { method: "POST", template: message, kind: "change", resource: "calls", handle: sendDataMessage },
];

function createCall({ world, account, body, origin }: SimulatorRequest): Reply {
  const request = parse(StartCall, body);
  checkLimits(world, account);
  const call = startCall(world, account, { request, joinHost: new URL(origin).host });
  return { status: 201, body: callView(call), delaySeconds: call.behaviour.answersAfterSeconds ?? 0 };
}

function listCalls({ world, account, query, address }: SimulatorRequest): Reply {
  const matches = callFilter(query);
  const found = sortByCreation(ownedBy(world.calls, account).filter(matches), query);
  return { status: 200, body: page(found, { query, address }, (call) => callView(call)) };
}

function callFilter(query: URLSearchParams): (call: Call) => boolean {
  const agentIds = query.getAll("agentIds");
  const from = dateParam(query, "fromDate", "T00:00:00.000Z") ?? Number.NEGATIVE_INFINITY;
  const to = dateParam(query, "toDate", "T23:59:59.999Z") ?? Number.POSITIVE_INFINITY;
  const shortest = durationParam(query, "durationMin") ?? 0;
  const longest = durationParam(query, "durationMax") ?? Number.POSITIVE_INFINITY;
  const [earliest, latest] = [
    query.get("timeOfDayStart") ?? "00:00:00",
    query.get("timeOfDayEnd") ?? "23:59:59.999999",
  ];
  const voice = query.get("voiceId");
  const search = query.get("search")?.toLowerCase();
  const metadata = [...query].flatMap(([name, value]) =>
    name.startsWith("metadata.") ? [[name.slice("metadata.".length), value] as const] : [],
  );
  return (call) => {
    const timeOfDay = new Date(call.created).toISOString().slice(11, 23);
    const duration = durationOf(call);
    return (
      metadata.every(([key, value]) => call.request.metadata?.[key] === value) &&
      (agentIds.length === 0 || agentIds.includes(call.agent?.agentId ?? "")) &&
      call.created >= from &&
      call.created <= to &&
      duration >= shortest &&
      duration <= longest &&
      timeOfDay >= earliest &&
      timeOfDay <= latest &&
      (voice === null || call.request.voice === voice) &&
      (search === undefined || call.lines.some((line) => line.text.toLowerCase().includes(search)))
    );
  };
}

/** A date without a time means the start or the end of that day, depending on the filter. */
function dateParam(query: URLSearchParams, name: string, timeOfDay: string): number | undefined {
  const given = query.get(name);
  if (given === null) return undefined;
  const at = Date.parse(/^\d{4}-\d\d-\d\d$/.test(given) ? given + timeOfDay : given);
  if (Number.isNaN(at)) throw new Refusal(400, { [name]: ["Enter a valid date or date and time."] });
  return at;
}

function durationParam(query: URLSearchParams, name: string): number | undefined {
  const given = query.get(name);
  if (given === null) return undefined;
  if (!/^\d+(\.\d+)?s$/.test(given)) throw new Refusal(400, { [name]: ['A duration looks like "30s".'] });
  return seconds(given);
}

function getCall(simulatorRequest: SimulatorRequest): Reply {
  return { status: 200, body: callView(own(simulatorRequest.world.calls, simulatorRequest)) };
}

function removeCall(simulatorRequest: SimulatorRequest): Reply {
  const call = own(simulatorRequest.world.calls, simulatorRequest);
  if (call.endedAt === null) throw new Refusal(400, "The call is still ongoing.");
  forgetCall(simulatorRequest.world, call);
  return { status: 204 };
}

function listMessages(simulatorRequest: SimulatorRequest): Reply {
  const call = own(simulatorRequest.world.calls, simulatorRequest);
  const mode = simulatorRequest.query.get("mode") ?? "last_stage";
  // No simulated call changes stage, so both modes return the same.
  if (mode !== "last_stage" && mode !== "in_call")
    throw new Refusal(400, { mode: [`"${mode}" is not a valid choice.`] });
  const rows = messagesView(simulatorRequest.world, call).map((view, ordinal) => ({ ordinal, view }));
  return { status: 200, body: page(rows, simulatorRequest, (row) => row.view) };
}

function getRecording(simulatorRequest: SimulatorRequest): Reply {
  const recording = recordingOf(
    simulatorRequest.world,
    own(simulatorRequest.world.calls, simulatorRequest),
    simulatorRequest.origin,
  );
  if ("wav" in recording) return { status: 200, ...recording };
  return { status: 302, headers: { Location: recording.location } };
}

function sendDataMessage(simulatorRequest: SimulatorRequest): Reply {
  const call = own(simulatorRequest.world.calls, simulatorRequest);
  const message = parse(DataMessage, simulatorRequest.body);
  const { joinedAt } = call;
  if (joinedAt === null || call.endedAt !== null) throw new Refusal(422, "The call is not joined, or it has ended.");
  const now = millis(elapsed(simulatorRequest.world, call));
  const start = Math.max(0, now - joinedAt);
  const say = (role: "USER" | "AGENT", text: string | undefined) => {
    if (text === undefined) return;
    // The new message replaces the planned conversation from here on.
    call.lines = call.lines.filter((line) => line.start < start);
    call.lines.push({ role, text, start, end: start + text.length / 18, medium: role === "USER" ? "TEXT" : "VOICE" });
  };
  if (message.type === "user_text_message") say("USER", message.text);
  else if (message.type === "forced_agent_message") say("AGENT", message.content);
  else {
    say("AGENT", message.message);
    endCall(simulatorRequest.world, call, "agent_hangup", now);
  }
  return { status: 204 };
}
