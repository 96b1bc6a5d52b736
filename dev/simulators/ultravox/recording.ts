import { createHmac } from "node:crypto";
import { stream } from "./random.ts";
import { Refusal } from "./requests.ts";
import { type Call, elapsed, type World } from "./state.ts";

/** Simulated seconds after the end of a call until its recording is ready. */
const READY_AFTER_SECONDS = 3;
const LINK_SECONDS = 300;
const RATE = 8000;

type Sound = { wav: Buffer; cutAfterMs?: number };
export type Recording = Sound | { location: string };

export function recordingOf(world: World, call: Call, origin: string): Recording {
  if (!call.request.recordingEnabled) throw new Refusal(404, "This call was not recorded.");
  if (call.endedAt === null) throw new Refusal(425, "The recording is not ready.");
  if (call.joinedAt === null) throw new Refusal(404, "This call was not recorded.");
  if (elapsed(world, call) < call.endedAt + READY_AFTER_SECONDS) throw new Refusal(425, "The recording is not ready.");
  const { recording } = world.faults;
  if (spend(recording, "missing")) throw new Refusal(404, "This call was not recorded.");
  if (spend(recording, "notReady")) throw new Refusal(425, "The recording is not ready.");
  const inline = world.faults.recordings ?? (call.ordinal % 2 === 0 ? "inline" : "redirect");
  if (inline === "inline") return sound(world, call.id);
  const expires = Math.floor(Date.now() / 1000) + LINK_SECONDS;
  const query = new URLSearchParams({ expires: String(expires), signature: signature(world, call.id, expires) });
  return { location: `${origin}/storage/recordings/${call.id}.wav?${query}` };
}

/** The storage behind the redirect needs no API key: a key that arrives here was leaked. */
export function storedRecording(world: World, callId: string, query: URLSearchParams, apiKey: boolean): Sound {
  if (apiKey) throw new Refusal(400, "The API key was forwarded to the storage of recordings.");
  const expires = Number(query.get("expires"));
  if (query.get("signature") !== signature(world, callId, expires)) throw new Refusal(403, "The signature is wrong.");
  if (expires * 1000 < Date.now()) throw new Refusal(403, "The link has expired.");
  const call = world.calls.get(callId);
  if (!call) throw new Refusal(404, "Not found.");
  return sound(world, call.id);
}

function sound(world: World, callId: string): Sound {
  const { recording } = world.faults;
  const wav = toneOf(world, callId, recording.seconds);
  return spend(recording, "cut") ? { wav, cutAfterMs: recording.holdMs } : { wav };
}

function spend(recording: World["faults"]["recording"], which: "missing" | "notReady" | "cut"): boolean {
  if (recording[which] === 0) return false;
  recording[which] -= 1;
  return true;
}

function signature(world: World, callId: string, expires: number): string {
  return createHmac("sha256", `storage ${world.seed}`).update(`${callId} ${expires}`).digest("hex");
}

/** A tone that differs by id: 16-bit mono, generated for every request. */
export function toneOf(world: World, id: string, seconds = 1): Buffer {
  const pitch = Math.round(stream(world.seed, "tone", id).between(220, 880));
  const wav = Buffer.alloc(44 + RATE * 2 * seconds);
  wav.write("RIFF", 0);
  wav.writeUInt32LE(wav.length - 8, 4);
  wav.write("WAVEfmt ", 8);
  wav.writeUInt32LE(16, 16);
  wav.writeUInt16LE(1, 20);
  wav.writeUInt16LE(1, 22);
  wav.writeUInt32LE(RATE, 24);
  wav.writeUInt32LE(RATE * 2, 28);
  wav.writeUInt16LE(2, 32);
  wav.writeUInt16LE(16, 34);
  wav.write("data", 36);
  wav.writeUInt32LE(RATE * 2 * seconds, 40);
  for (let sample = 0; sample < RATE * seconds; sample++) {
    wav.writeInt16LE(Math.round(8000 * Math.sin((2 * Math.PI * pitch * sample) / RATE)), 44 + sample * 2);
  }
  return wav;
}
