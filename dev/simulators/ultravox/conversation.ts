import type { Behaviour } from "./numbers.ts";
import type { Random } from "./random.ts";
import type { Line } from "./state.ts";

const greetings = [
  "Hello, this is the assistant calling. Do you have a minute?",
  "Good day, I am calling about your appointment. Is this a good time?",
  "Hi, you are speaking with the virtual assistant. How are you today?",
] as const;

const exchanges = [
  ["Yes, go ahead.", "Thank you. I wanted to confirm the details that we have on file."],
  ["Who is this again?", "I am the assistant that you requested. It will not take long."],
  ["Could we do that on Thursday?", "Thursday works. Would the morning or the afternoon suit you?"],
  ["The afternoon, please.", "Very good, I have noted the afternoon."],
  ["What will it cost?", "There is no charge for the first visit."],
  ["Can you send that to me in writing?", "Of course, you will have it within the hour."],
  ["I would rather speak to a person.", "I understand. A colleague will ring you back today."],
] as const;

const farewells = ["Thank you for your time. Goodbye.", "That was all. Have a pleasant day."] as const;

/** The planned messages, in seconds since the call was joined. A call that ends early ends in the middle. */
export function tell(
  random: Random,
  { speaks = "person" }: Behaviour,
  talkSeconds: number,
  selectedTools: readonly Record<string, unknown>[] = [],
): Line[] {
  if (speaks === "person") return conversation(random, talkSeconds);
  const hangUp = toolAgainstMachines(selectedTools);
  return hangUp === null ? voicemail(random, talkSeconds) : hungUp(random, talkSeconds, hangUp);
}

/** The name of the tool that ends a call with an answering machine; null where the agent leaves a message. */
function toolAgainstMachines(selectedTools: readonly Record<string, unknown>[]): string | null {
  if (selectedTools.some(({ toolName }) => toolName === "leaveVoicemail")) return null;
  const found = selectedTools.find(
    ({ toolName, descriptionOverride }) => toolName === "hangUp" && /voicemail/.test(String(descriptionOverride ?? "")),
  );
  return found ? String(found.nameOverride ?? "hangUp") : null;
}

/** The agent hangs up on a machine without a message. */
function hungUp(random: Random, talkSeconds: number, name: string): Line[] {
  const tool = { name, invocationId: random.uuid() };
  const at = Math.min(6, talkSeconds / 2);
  return [
    { role: "USER", text: greetingOfMachine, start: 0.5, end: at },
    { role: "TOOL_CALL", text: "{}", start: at + 0.2, end: at + 0.3, tool },
    { role: "TOOL_RESULT", text: "OK", start: at + 0.4, end: at + 0.5, tool },
  ].map((line) => ({ ...line, medium: "VOICE", start: round(line.start), end: round(line.end) }) as Line);
}

const greetingOfMachine = "The person you are calling is not available. Please leave a message.";

function conversation(random: Random, talkSeconds: number): Line[] {
  const lines: Line[] = [];
  // A call without an end still needs an end to its conversation.
  const lasts = Math.min(talkSeconds, 40);
  let at = 0.4;
  const say = (role: Line["role"], text: string) => {
    const start = round(at);
    at = start + 1 + text.length / 18;
    lines.push({ role, text, start, end: round(at), medium: "VOICE" });
    at += random.between(0.3, 0.9);
  };
  say("AGENT", random.pick(greetings));
  for (const [question, reply] of random.shuffle(exchanges)) {
    if (at + 10 > lasts) break;
    say("USER", question);
    say("AGENT", reply);
  }
  say("AGENT", random.pick(farewells));
  return lines;
}

function voicemail(random: Random, talkSeconds: number): Line[] {
  const invocationId = random.uuid();
  const message = "Hello, this is the assistant. Please ring us back when it suits you.";
  const beep = Math.min(6, talkSeconds / 2);
  const tool = { name: "leaveVoicemail", invocationId };
  const voice = "VOICE" as const;
  return [
    {
      role: "USER",
      text: greetingOfMachine,
      start: 0.5,
      end: beep,
    },
    { role: "TOOL_CALL", text: JSON.stringify({ message }), start: beep + 0.2, end: beep + 0.3, tool },
    { role: "TOOL_RESULT", text: "OK", start: beep + 0.4, end: beep + 0.5, tool },
    { role: "AGENT", text: message, start: beep + 0.6, end: talkSeconds },
  ].map((line) => ({ ...line, medium: voice, start: round(line.start), end: round(line.end) }) as Line);
}

export function summarize(lines: readonly Line[], talkSeconds: number): { shortSummary: string; summary: string } {
  const seconds = Math.round(talkSeconds);
  if (lines.some((line) => line.tool?.name === "leaveVoicemail")) {
    const shortSummary = "The agent left a message on the voicemail.";
    return { shortSummary, summary: `${shortSummary} The call lasted ${seconds} seconds.` };
  }
  const turns = lines.filter((line) => line.role === "USER").length;
  if (turns === 0)
    return { shortSummary: "There was no conversation.", summary: "The call ended before the callee spoke." };
  return {
    shortSummary: "The agent spoke with the callee.",
    summary: `The agent spoke with the callee for ${seconds} seconds; the callee took ${turns} turns.`,
  };
}

function round(seconds: number): number {
  return Math.round(seconds * 1000) / 1000;
}
