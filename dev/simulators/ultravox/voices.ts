import { createHash } from "node:crypto";
import { z } from "zod";
import { page } from "./page.ts";
import { stream } from "./random.ts";
import { toneOf } from "./recording.ts";
import { parse, Refusal } from "./requests.ts";
import { own, ownedBy, type Reply, type Route, type SimulatorRequest } from "./route.ts";
import { type Account, nextThing, shelf, type Thing, type World } from "./state.ts";

const maxSampleBytes = 10_000_000;

interface Voice extends Thing {
  name: string;
  description: string | null;
  primaryLanguage: string | null;
  ownership: "private" | "public";
  /** The TTS vendor in the provider's spelling; null: the provider itself. */
  provider: string | null;
  definition: object;
  /** The uploaded sample of a clone. */
  sample?: { bytes: number; sha256: string };
}

export const voiceRoutes: Route[] = [
  { method: "GET", template: "/api/voices", kind: "read", resource: "voices", handle: listVoices },
  { method: "POST", template: "/api/voices", kind: "create", resource: "voices", handle: createVoice },
  { method: "GET", template: "/api/voices/{voice_id}", kind: "read", resource: "voices", handle: getVoice },
  { method: "PUT", template: "/api/voices/{voice_id}", kind: "change", resource: "voices", handle: replaceVoice },
  { method: "PATCH", template: "/api/voices/{voice_id}", kind: "change", resource: "voices", handle: updateVoice },
  { method: "DELETE", template: "/api/voices/{voice_id}", kind: "change", resource: "voices", handle: removeVoice },
  { method: "GET", template: "/api/voices/{voice_id}/preview", kind: "read", resource: "voices", handle: previewVoice },
  { method: "GET", template: "/storage/voices/{file}", resource: "other", handle: storedPreview },
  { method: "POST", template: "/_sim/voices/limit", resource: "other", handle: limitVoices },
  { method: "GET", template: "/_sim/voices", resource: "other", handle: allVoices },
];

// openapi.json: ultravox.v1.ExternalVoice and the schemas that it references.
const text = z.string();
const named = { voiceId: text.optional() };
const loose = z.record(text, z.unknown());
const Definition = z
  .strictObject({
    elevenLabs: z
      .strictObject({
        ...named,
        model: text.optional(),
        speed: z.number().min(0.7).max(1.2).optional(),
        useSpeakerBoost: z.boolean().optional(),
        style: z.number().optional(),
        similarityBoost: z.number().optional(),
        stability: z.number().optional(),
        pronunciationDictionaries: z.array(loose).optional(),
        optimizeStreamingLatency: z.int().optional(),
        maxSampleRate: z.int().optional(),
        enableSsmlParsing: z.boolean().optional(),
      })
      .optional(),
    cartesia: z.strictObject({ ...named, model: text.optional(), generationConfig: loose.optional() }).optional(),
    lmnt: z
      .strictObject({
        ...named,
        model: text.optional(),
        speed: z.number().min(0.25).max(2).optional(),
        conversational: z.boolean().optional(),
      })
      .optional(),
    google: z.strictObject({ ...named, speakingRate: z.number().min(0.25).max(2).optional() }).optional(),
    inworld: z.looseObject({ ...named, modelId: text.optional() }).optional(),
    respeecher: z.looseObject({ ...named, model: text.optional() }).optional(),
    generic: z
      .strictObject({
        url: z.url(),
        headers: z.record(text, text).optional(),
        body: loose.refine((body) => JSON.stringify(body).includes("{text}"), "Some field needs {text}."),
        responseSampleRate: z.int().optional(),
        responseWordsPerMinute: z.int().optional(),
        responseMimeType: text.optional(),
        jsonAudioFieldPath: text.optional(),
        jsonByteEncoding: text.optional(),
      })
      .optional(),
  })
  .refine((definition) => Object.keys(definition).length === 1, { message: "Exactly one field must be set." });

const fields = {
  name: text.min(1).max(40),
  description: text.max(240).nullable().optional(),
  primaryLanguage: text.max(10).nullable().optional(),
};
const NewVoice = z.strictObject({ ...fields, definition: Definition });
const VoiceChange = z.strictObject({ ...fields, name: fields.name.optional(), definition: Definition.optional() });

/** Voices that every account may use. */
const publicVoices = ["Mark", "Jessica", "Emily-English", "Aaron-English", "Cassidy-English"] as const;

function publicOnes(world: World): Voice[] {
  return publicVoices.map((name, index) => ({
    id: stream(world.seed, "public voice", index).uuid(),
    ordinal: -1 - index,
    account: "",
    name,
    description: "A public voice",
    primaryLanguage: "en",
    ownership: "public",
    provider: "cartesia",
    definition: {},
  }));
}

const voicesIn = (world: World) => shelf<Voice>(world, "voices");

/** This endpoint also returns public voices. */
function seen(request: SimulatorRequest): Voice {
  return publicOnes(request.world).find(({ id }) => id === request.id) ?? own(voicesIn(request.world), request);
}

function listVoices({ world, account, query, address }: SimulatorRequest): Reply {
  const wanted = (name: string, value: string) => query.get(name) === null || query.get(name) === value;
  const search = query.get("search")?.toLowerCase() ?? "";
  const providers = query.getAll("provider");
  const found = [...ownedBy(voicesIn(world), account).toSorted((a, b) => b.ordinal - a.ordinal), ...publicOnes(world)]
    .filter((voice) => `${voice.name} ${voice.description ?? ""}`.toLowerCase().includes(search))
    .filter((voice) => wanted("ownership", voice.ownership) && wanted("billingStyle", billingStyle(voice)))
    .filter((voice) => wanted("primaryLanguage", voice.primaryLanguage ?? ""))
    .filter((voice) => providers.length === 0 || providers.includes(voice.provider ?? ""));
  return { status: 200, body: page(found, { query, address }, viewIn(address)) };
}

function createVoice(request: SimulatorRequest): Reply | Promise<Reply> {
  const { world, account, form, address } = request;
  if (form) return cloneVoice(request, form);
  const { name, description = null, primaryLanguage = null, definition } = parse(NewVoice, request.body);
  const provider = providerOf(definition);
  const voice = keep(world, account, { name, description, primaryLanguage, provider, definition });
  return { status: 201, body: viewIn(address)(voice) };
}

/** Synchronous, one file, no training. */
async function cloneVoice({ world, account, address }: SimulatorRequest, form: FormData): Promise<Reply> {
  const file = form.get("file");
  const field = (name: string) => {
    const value = form.get(name);
    return typeof value === "string" && value !== "" ? value : undefined;
  };
  if (!(file instanceof File)) throw new Refusal(400, { file: ["No file was submitted."] });
  if (form.getAll("file").length > 1) throw new Refusal(400, { file: ["Multiple files are not supported."] });
  if (!/\.(mp3|wav)$/i.test(file.name)) throw new Refusal(400, { file: ["Only .mp3 and .wav files are supported."] });
  if (file.size > maxSampleBytes) throw new Refusal(400, { file: ["The file must not be larger than 10 MB."] });
  const { name, description } = parse(z.object({ name: fields.name, description: fields.description }), {
    name: field("name"),
    description: field("description"),
  });
  const sha256 = createHash("sha256")
    .update(Buffer.from(await file.arrayBuffer()))
    .digest("hex");
  const voice = keep(world, account, {
    name,
    description: description ?? `Voice cloned on ${new Date().toDateString()}`,
    primaryLanguage: field("language") ?? "en",
    provider: null,
    definition: {},
    sample: { bytes: file.size, sha256 },
  });
  return { status: 201, body: viewIn(address)(voice), delaySeconds: account.cloneSeconds ?? 0 };
}

type Given = Pick<Voice, "name" | "description" | "primaryLanguage" | "provider" | "definition" | "sample">;

function keep(world: World, account: Account, given: Given): Voice {
  refuseTaken(world, account, given.name);
  const has = ownedBy(voicesIn(world), account).filter(({ sample }) => sample).length;
  if (given.sample && has >= (account.voices ?? Number.POSITIVE_INFINITY)) {
    throw new Refusal(400, "You have reached the number of cloned voices that your account may have.");
  }
  const { ordinal, random } = nextThing(world, "voices");
  const voice: Voice = { ...given, id: random.uuid(), ordinal, account: account.id, ownership: "private" };
  voicesIn(world).set(voice.id, voice);
  return voice;
}

function refuseTaken(world: World, account: Account, name: string, but?: Voice): void {
  const taken = ownedBy(voicesIn(world), account).some((voice) => voice.name === name && voice !== but);
  if (taken) throw new Refusal(400, { name: ["A voice with this name already exists."] });
}

function getVoice(request: SimulatorRequest): Reply {
  return { status: 200, body: viewIn(request.address.replace(/\/[^/]+$/, ""))(seen(request)) };
}

function replaceVoice(request: SimulatorRequest): Reply {
  return change(request, { description: null, ...parse(NewVoice, request.body) });
}

function updateVoice(request: SimulatorRequest): Reply {
  return change(request, parse(VoiceChange, request.body));
}

function change(request: SimulatorRequest, given: z.output<typeof VoiceChange>): Reply {
  const voice = own(voicesIn(request.world), request);
  if (given.name) refuseTaken(request.world, request.account, given.name, voice);
  const { definition } = given;
  Object.assign(voice, given, definition ? { provider: providerOf(definition) } : {});
  return { status: 200, body: viewIn(request.address.replace(/\/[^/]+$/, ""))(voice) };
}

function removeVoice(request: SimulatorRequest): Reply {
  voicesIn(request.world).delete(own(voicesIn(request.world), request).id);
  return { status: 204 };
}

/** One second of audio, or a redirect to it. 400 with an `error` for a voice that cannot speak. */
function previewVoice(request: SimulatorRequest): Reply {
  const voice = seen(request);
  if ("generic" in voice.definition && /\bbroken\b/.test(JSON.stringify(voice.definition))) {
    return { status: 400, body: { error: "The TTS endpoint answered with status 500." } };
  }
  if (request.world.faults.recordings !== "redirect") return { status: 200, wav: toneOf(request.world, voice.id) };
  return { status: 302, headers: { Location: `${request.origin}/storage/voices/${voice.id}.wav` } };
}

function storedPreview({ world, id, hasApiKey }: SimulatorRequest): Reply {
  if (hasApiKey) throw new Refusal(400, "The API key was forwarded to the storage of previews.");
  return { status: 200, wav: toneOf(world, id.replace(/\.wav$/, "")) };
}

/** All voices with their uploaded samples, for tests. */
function allVoices({ world }: SimulatorRequest): Reply {
  const shown = [...voicesIn(world).values()].map(({ id, account, name, primaryLanguage, definition, sample }) => {
    return { id, account, name, primaryLanguage, definition, sample: sample ?? null };
  });
  return { status: 200, body: { voices: shown } };
}

const Limit = z.strictObject({
  accountId: text.optional(),
  allowed: z.int().min(0).nullable().optional(),
  cloneSeconds: z.number().min(0).optional(),
});

/** Sets the limit of cloned voices of an account (null: no limit), and the duration of a clone. */
function limitVoices({ world, body }: SimulatorRequest): Reply {
  const { accountId, allowed, cloneSeconds } = parse(Limit, body);
  const account = accountId ? world.accounts.find(({ id }) => id === accountId) : world.accounts[0];
  if (!account) throw new Refusal(404, "Not found.");
  if (allowed !== undefined) account.voices = allowed;
  if (cloneSeconds !== undefined) account.cloneSeconds = cloneSeconds;
  return { status: 200, body: { accountId: account.id, allowed: account.voices ?? null } };
}

const spelt: Record<string, string> = { elevenLabs: "eleven_labs" };

function providerOf(definition: object): string {
  const [name = ""] = Object.keys(definition);
  return spelt[name] ?? name;
}

const billingStyle = ({ ownership, sample }: Voice) =>
  ownership === "public" || sample ? "VOICE_BILLING_STYLE_INCLUDED" : "VOICE_BILLING_STYLE_EXTERNAL";

const viewIn = (address: string) => (voice: Voice) => ({
  voiceId: voice.id,
  name: voice.name,
  description: voice.description,
  primaryLanguage: voice.primaryLanguage,
  languageLabel: voice.primaryLanguage,
  previewUrl: `${address}/${voice.id}/preview`,
  ownership: voice.ownership,
  billingStyle: billingStyle(voice),
  provider: voice.provider,
  definition: voice.definition,
});
