import { z } from "zod";

// The provider's response to an unknown field is not documented. A refusal shows a misspelt field during development.

const Duration = z.string().regex(/^-?(?:0|[1-9][0-9]{0,11})(?:\.[0-9]{1,9})?s$/, 'A duration looks like "30s".');
const Json = z.record(z.string(), z.unknown());
const OutputMedium = z.enum(["MESSAGE_MEDIUM_UNSPECIFIED", "MESSAGE_MEDIUM_VOICE", "MESSAGE_MEDIUM_TEXT"]);
const Retention = z.enum([
  "CALL_RETENTION_POLICY_UNSPECIFIED",
  "CALL_RETENTION_POLICY_RETAIN",
  "CALL_RETENTION_POLICY_AUTO_DELETE",
]);

const number = z.string().regex(/\d/, "A number to dial has digits.");
const phone = z.strictObject({
  outgoing: z.strictObject({ to: number, from: z.string(), additionalParams: Json.optional() }).optional(),
  dtmfHandling: Json.optional(),
});
const sip = z
  .strictObject({
    incoming: z.strictObject({}).optional(),
    outgoing: z
      .strictObject({
        to: z.string().regex(/^(sips?:)?[^@\s]+@[^@\s]+$/, "A SIP URI is needed; phone numbers are not allowed."),
        from: z.string(),
        username: z.string().optional(),
        password: z.string().optional(),
      })
      .optional(),
  })
  .refine((medium) => (medium.incoming === undefined) !== (medium.outgoing === undefined), {
    message: "Exactly one of incoming and outgoing is needed.",
  });

const MediumInput = z
  .strictObject({
    webRtc: Json.optional(),
    serverWebSocket: Json.optional(),
    twilio: phone.optional(),
    telnyx: phone.optional(),
    plivo: phone.optional(),
    exotel: z.strictObject({ dtmfHandling: Json.optional() }).optional(),
    sip: sip.optional(),
  })
  .refine((medium) => Object.keys(medium).length <= 1, { message: "At most one medium may be set." });
export type MediumInput = z.output<typeof MediumInput>;

const FirstSpeaker = z
  .strictObject({ user: Json.optional(), agent: Json.optional() })
  .refine((settings) => Object.keys(settings).length === 1, { message: "Exactly one of user and agent is needed." });

const TimedMessage = z.strictObject({
  duration: Duration.optional(),
  message: z.string().optional(),
  endBehavior: z
    .enum(["END_BEHAVIOR_UNSPECIFIED", "END_BEHAVIOR_HANG_UP_SOFT", "END_BEHAVIOR_HANG_UP_STRICT"])
    .optional(),
});

const common = {
  medium: MediumInput,
  initialOutputMedium: OutputMedium,
  joinTimeout: Duration,
  maxDuration: Duration,
  recordingEnabled: z.boolean(),
  firstSpeakerSettings: FirstSpeaker,
  voice: z.string(),
  voiceOverrides: Json,
  dataConnection: Json,
  retentionPolicy: Retention,
  sharedSecrets: z.array(z.string().min(16).max(127)),
};

const speech = {
  systemPrompt: z.string(),
  temperature: z.number().min(0).max(1),
  model: z.string(),
  externalVoice: Json,
  languageHint: z.string().max(16),
  timeExceededMessage: z.string(),
  inactivityMessages: z.array(TimedMessage),
  selectedTools: z.array(Json),
  vadSettings: Json,
};

const templateFields = z
  .strictObject({
    name: z.string(),
    created: z.string(),
    updated: z.string(),
    contextSchema: Json,
    ...common,
    ...speech,
  })
  .partial();
const oneVoice = { message: "Only one of voice and externalVoice may be set." };
const hasOneVoice = (body: { voice?: unknown; externalVoice?: unknown }) => !(body.voice && body.externalVoice);

const CallTemplate = templateFields.refine(hasOneVoice, oneVoice);
export type CallTemplate = z.output<typeof CallTemplate>;

/** In an update a null clears the field. */
const nullableFields = Object.fromEntries(
  Object.entries(templateFields.shape).map(([name, field]) => [name, field.nullable()]),
) as { [Name in keyof typeof templateFields.shape]: z.ZodNullable<(typeof templateFields.shape)[Name]> };
const TemplateChange = z.strictObject(nullableFields).partial().refine(hasOneVoice, oneVoice);
export type TemplateChange = z.output<typeof TemplateChange>;

const agentName = z.string().min(1).max(64);
export const NewAgent = z.strictObject({ name: agentName.optional(), callTemplate: CallTemplate.nullish() });
export const AgentChange = z.strictObject({ name: agentName.optional(), callTemplate: TemplateChange.nullish() });

const callback = z.strictObject({ url: z.url().max(200), secrets: z.array(z.string().max(120)).optional() });
const metadata = z
  .record(z.string(), z.string())
  .refine((pairs) => !Object.keys(pairs).some((key) => key.startsWith("ultravox.")), {
    message: 'Keys may not start with "ultravox.".',
  });
const callOnly = {
  initialMessages: z.array(Json),
  metadata,
  experimentalSettings: Json,
  callbacks: z.strictObject({ joined: callback, ended: callback, billed: callback }).partial(),
};

export const StartCall = z
  .strictObject({
    ...common,
    ...speech,
    ...callOnly,
    firstSpeaker: z.enum(["FIRST_SPEAKER_UNSPECIFIED", "FIRST_SPEAKER_AGENT", "FIRST_SPEAKER_USER"]),
    transcriptOptional: z.boolean(),
    initialState: Json,
  })
  .partial()
  .refine(hasOneVoice, oneVoice);
export type CallRequest = z.output<typeof StartCall>;

export const StartAgentCall = z
  .strictObject({
    ...common,
    ...callOnly,
    templateContext: Json,
    toolOverrides: z
      .strictObject({ remove: z.array(z.string()), removeAll: z.boolean(), add: z.array(Json) })
      .partial(),
    agentId: z.string(),
  })
  .partial();

export const WebhookEvent = z.enum(["call.started", "call.joined", "call.ended", "call.billed"]);
export type WebhookEvent = z.output<typeof WebhookEvent>;

export const NewWebhook = z.strictObject({
  url: z.url().max(200),
  events: z.array(WebhookEvent).min(1),
  agentId: z.uuid().nullish(),
  secrets: z.array(z.string().min(1).max(120)).optional(),
});
export const WebhookChange = NewWebhook.partial();

const ttsKey = z.string().nullable();
export const TtsKeys = z
  .strictObject({
    elevenLabs: ttsKey,
    cartesia: ttsKey,
    lmnt: ttsKey,
    google: ttsKey,
    inworld: ttsKey,
    respeecher: ttsKey,
  })
  .partial();
export type TtsKeys = z.output<typeof TtsKeys>;

const urgency = z.enum(["immediate", "soon", "later"]).optional();
export const DataMessage = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("hang_up"), message: z.string().optional() }),
  z.strictObject({
    type: z.literal("forced_agent_message"),
    content: z.string().optional(),
    toolCalls: z.array(Json).optional(),
    uninterruptible: z.boolean().optional(),
    urgency,
  }),
  z.strictObject({ type: z.literal("user_text_message"), text: z.string(), urgency }),
]);

/** A response with an error status. */
export class Refusal extends Error {
  readonly status: number;
  readonly body: Record<string, unknown>;
  readonly headers: Record<string, string>;

  constructor(status: number, body: Record<string, unknown> | string, headers: Record<string, string> = {}) {
    super(`${status}`);
    this.status = status;
    this.body = typeof body === "string" ? { detail: body } : body;
    this.headers = headers;
  }
}

/** The parsed body, or 400 with a list of messages for each invalid field. */
export function parse<Schema extends z.ZodType>(schema: Schema, body: unknown): z.output<Schema> {
  const result = schema.safeParse(body ?? {});
  if (result.success) return result.data;
  const fields: Record<string, string[]> = {};
  for (const issue of result.error.issues) {
    const unknown = issue.code === "unrecognized_keys" ? issue.keys : [undefined];
    for (const key of unknown) {
      const [field = "non_field_errors", ...below] = key === undefined ? issue.path : [...issue.path, key];
      const message = below.length > 0 ? `${below.join(".")}: ${issue.message}` : issue.message;
      fields[String(field)] = [...(fields[String(field)] ?? []), message];
    }
  }
  throw new Refusal(400, fields);
}

/** "5.5s" in seconds. The caller has checked the format. */
export function seconds(duration: string): number {
  return Number(duration.slice(0, -1));
}
