import type { CallEndpoints } from "./resources.ts";

/** A call with a tool that changes the call state, and its messages. */
export const artifacts: CallEndpoints = async (ask) => {
  const { body: call } = await ask<{ callId: string }>("POST", "/api/calls", {
    recordingEnabled: true,
    medium: { sip: { outgoing: { to: "sip:+14155550015@trunk.example", from: "sip:+14155550199@trunk.example" } } },
  });
  await ask("POST", `/_sim/calls/${call.callId}/join`);
  await ask("POST", `/_sim/calls/${call.callId}/tool`, { name: "book", arguments: { seats: 2 }, state: { seats: 2 } });
  await ask("GET", `/api/calls/${call.callId}/messages?mode=in_call`);
  await ask("POST", `/_sim/calls/${call.callId}/end`);
};
