import { z } from "zod";
import { examples, Id, Timestamp } from "../core/fields.ts";
import { PageInput, pageOf } from "../core/pagination.ts";
import { NumberField, SipAuthUserField, SipHostField, SipUserField } from "../core/sip-address.ts";

const carrierNames = ["sip", "twilio", "telnyx", "plivo"] as const;
const Carrier = z.enum(carrierNames).meta({ examples: ["sip"] });

const OwnNumber = NumberField().meta({ redact: "none", examples: ["+493012345678"] }); // the client's own number, which the audit log needs
const Server = SipHostField(100).meta({ examples: ["sip.example.com"] });
const SipUser = SipUserField(60).meta({ examples: ["reception"] });
const AuthUser = SipAuthUserField(60);

const registrationId = Id("sipRegistration", examples.registration);

export const Registration = z
  .object({
    id: registrationId,
    // As stored: values accepted before a validation rule existed stay valid.
    username: z.string().meta({ examples: ["reception"] }),
    proxy: z.string().meta({ examples: ["sip.example.com"] }),
    outboundProxy: z
      .string()
      .nullable()
      .meta({ examples: [null] }),
    authUser: z
      .string()
      .nullable()
      .meta({ description: "Only if it differs from `username`.", examples: [null] }),
    status: z.enum(["provisioning", "active", "failed"]).meta({ examples: ["active"] }),
    statusReason: z
      .string()
      .nullable()
      .meta({ examples: [null] }),
    registered: z
      .boolean()
      .nullable()
      .meta({
        description: "Whether the SIP server accepts the registration. null until it was tried.",
        examples: [true],
      }),
    createdAt: Timestamp,
  })
  .meta({ id: "SipRegistration" });
export type Registration = z.output<typeof Registration>;
export const RegistrationPage = pageOf(Registration);

export const CreateRegistration = z.strictObject({
  username: SipUser,
  password: z
    .string()
    .min(1)
    .max(200)
    .meta({ description: "Sent to the voice provider and not stored here.", redact: "secret", examples: ["…"] }),
  proxy: Server.meta({
    description: "The host of the SIP server, with an optional port. It must be reachable from the internet.",
  }),
  outboundProxy: Server.nullable().default(null),
  authUser: AuthUser.nullable()
    .default(null)
    .meta({
      description:
        "The user name for authentication, if it differs from `username`. Some servers expect `user@domain`.",
      redact: "none",
      examples: [null],
    }),
});
export type CreateRegistration = z.output<typeof CreateRegistration>;
export const RegistrationId = z.strictObject({ id: registrationId });
export const ListRegistrations = z.strictObject({ ...PageInput });
export type ListRegistrations = z.output<typeof ListRegistrations>;

export const routeStatuses = ["pending", "waiting", "live", "failed"] as const;
export const RoutePattern = z
  .string()
  .regex(
    /^(\+?[0-9]{1,15}|[A-Za-z][A-Za-z0-9_.-]{0,59})\*?$/,
    "Write a number or the user part of a SIP address. `*` at the end matches any rest.",
  );

const routeFields = {
  pattern: RoutePattern.meta({
    description:
      "The called address: `+493012345678`, `+4930*` or `reception`. A number is stored with its plus sign and matches without it too.",
    examples: ["+493012345678"],
  }),
  agentId: Id("agent", examples.agent),
  rank: z
    .int()
    .min(0)
    .max(1000)
    .meta({
      description: "If several of your routes match, the lowest rank answers, then the narrower pattern.",
      examples: [0],
    }),
  enabled: z.boolean().meta({ examples: [true] }),
  description: z
    .string()
    .trim()
    .max(200)
    .nullable()
    .meta({ examples: ["Main line"] }),
};
const routeId = Id("route", examples.route);

export const Route = z
  .object({
    id: routeId,
    ...routeFields,
    status: z.enum(routeStatuses).meta({
      description:
        "The status at the voice provider. `waiting`: the number of the shared account is not assigned to you, so the route does not answer. An operator can assign it.",
      examples: ["live"],
    }),
    statusReason: z
      .string()
      .nullable()
      .meta({ examples: [null] }),
    createdAt: Timestamp,
    updatedAt: Timestamp,
  })
  .meta({ id: "InboundRoute" });
export type Route = z.output<typeof Route>;
export const RoutePage = pageOf(Route);

export const CreateRoute = z.strictObject({
  pattern: routeFields.pattern,
  agentId: routeFields.agentId,
  rank: routeFields.rank.default(0),
  enabled: routeFields.enabled.default(true),
  description: routeFields.description.default(null),
});
export type CreateRoute = z.output<typeof CreateRoute>;
export const UpdateRoute = z.strictObject({
  id: routeId,
  ...z.object({ ...routeFields, pattern: routeFields.pattern.meta({ examples: ["+493012345*"] }) }).partial().shape,
});
export type UpdateRoute = z.output<typeof UpdateRoute>;
export const RouteId = z.strictObject({ id: routeId });
export const ListRoutes = z.strictObject({
  ...PageInput,
  agentId: routeFields.agentId.optional().meta({ description: "Only routes of this agent." }),
});
export type ListRoutes = z.output<typeof ListRoutes>;

const Cidr = z.cidrv4("Write an IPv4 range such as 192.0.2.0/24.").meta({ examples: ["192.0.2.0/24"] });

export const TelephonyConfig = z
  .object({
    accountIsShared: z.boolean().meta({
      description: "Whether you use the installation's shared provider account, or your own.",
      examples: [true],
    }),
    sip: z.object({
      domain: z
        .string()
        .nullable()
        .meta({
          description: "The domain for inbound calls: `sip:<user>@<domain>`.",
          examples: ["example.sip.ultravox.ai"],
        }),
      allowedCidrRanges: z
        .array(z.string())
        .nullable()
        .meta({
          description: "The IP ranges from which inbound calls are accepted. null on the shared account.",
          examples: [null],
        }),
    }),
    carriers: z.array(
      z.object({
        carrier: z.enum(["twilio", "telnyx", "plivo"]).meta({ examples: ["twilio"] }),
        isShared: z.boolean().meta({ examples: [true] }),
        account: z
          .string()
          .nullable()
          .meta({ description: "The account at the carrier. null on the shared account.", examples: [null] }),
        secretPrefix: z
          .string()
          .nullable()
          .meta({ examples: [null] }),
      }),
    ),
    defaultCarrier: Carrier.nullable(),
    defaultFrom: z
      .string()
      .nullable()
      .meta({ examples: ["+493012345678"] }),
    registrations: z.array(Registration).meta({ description: "The newest 100." }),
    routes: z.array(Route).meta({ description: "The newest 100." }),
    numbers: z
      .array(
        z.object({
          pattern: z.string().meta({ examples: ["+49301234*"] }),
          maxRoutes: z.int().meta({ description: "How many matching routes can answer.", examples: [5] }),
        }),
      )
      .meta({ description: "The numbers of the shared account that operators have assigned to you." }),
  })
  .meta({ id: "TelephonyConfig" });
export type TelephonyConfig = z.output<typeof TelephonyConfig>;

const ownAccountOnly = "Needs a provider account of your own.";
export const UpdateTelephony = z.strictObject({
  defaultCarrier: Carrier.nullable()
    .optional()
    .meta({ description: "The carrier of calls without `carrier`. null: `sip`.", examples: ["telnyx"] }),
  defaultFrom: OwnNumber.nullable()
    .optional()
    .meta({ description: "The caller number of calls without `from`.", redact: "none", examples: ["+493012345678"] }),
  allowedCidrRanges: z
    .array(Cidr)
    .max(50)
    .optional()
    .meta({ description: ownAccountOnly, examples: [["192.0.2.0/24"]] }),
  carriers: z
    .strictObject({
      twilio: z
        .boolean()
        .optional()
        .meta({ examples: [true] }),
      plivo: z
        .boolean()
        .optional()
        .meta({ examples: [false] }),
      telnyx: z
        .strictObject({
          accountSid: z
            .string()
            .min(1)
            .max(80)
            .meta({ examples: ["a1b2c3"] }),
          applicationSid: z
            .string()
            .min(1)
            .max(40)
            .meta({ description: "A TeXML application with an outbound voice profile.", examples: ["1234567890"] }),
        })
        .nullable()
        .optional(),
    })
    .optional()
    .meta({
      description: `Sets up the carrier at the voice provider with your stored credential; \`false\` or null removes it. ${ownAccountOnly}`,
      examples: [{ twilio: true }],
    }),
});
export type UpdateTelephony = z.output<typeof UpdateTelephony>;
