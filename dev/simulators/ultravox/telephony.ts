import { z } from "zod";
import { page, sortByCreation } from "./page.ts";
import { parse, Refusal } from "./requests.ts";
import { type Asked, own, ownedBy, type Reply, type Route } from "./route.ts";
import { nextThing, shelf, type Thing, type World } from "./state.ts";

const carriers = ["twilio", "telnyx", "plivo"] as const;
type CarrierName = (typeof carriers)[number];

interface Registration extends Thing {
  created: number;
  username: string;
  proxy: string;
  outboundProxy: string | null;
  authUser: string | null;
}
interface Config extends Thing {
  fields: Record<string, unknown>;
}

const registration = "/api/sip/registrations/{registration_id}";
const noun = "telephony" as const;
const read = { method: "GET", kind: "read", noun } as const;
const change = { method: "PATCH", kind: "change", noun } as const;
const removal = { method: "DELETE", kind: "change", noun } as const;

export const telephonyRoutes: Route[] = [
  { ...read, template: "/api/sip", handle: (asked) => ({ status: 200, body: sipView(asked) }) },
  { ...change, template: "/api/sip", handle: changeSip },
  { ...read, template: "/api/sip/registrations", handle: listRegistrations },
  { method: "POST", template: "/api/sip/registrations", kind: "create", noun, handle: createRegistration },
  {
    ...read,
    template: registration,
    handle: (asked) => ({ status: 200, body: view(own(registrations(asked.world), asked)) }),
  },
  { ...change, template: registration, handle: changeRegistration },
  { ...removal, template: registration, handle: removeRegistration },
  ...carriers.flatMap((name): Route[] => {
    const template = `/api/telephony_configs/${name}`;
    return [
      { ...read, template, handle: (asked) => ({ status: 200, body: configView(name, configOf(asked, name)) }) },
      { method: "POST", template, kind: "create", noun, handle: (asked) => createConfig(asked, name) },
      { ...change, template, handle: (asked) => changeConfig(asked, name) },
      { ...removal, template, handle: (asked) => removeConfig(asked, name) },
    ];
  }),
];

const registrations = (world: World) => shelf<Registration>(world, "registration");
const configs = (world: World) => shelf<Config>(world, "telephony");

const Cidr = z.string().regex(/^\d{1,3}(\.\d{1,3}){3}\/\d{1,2}$/, "An IPv4 range is needed.");
const SipChange = z
  .strictObject({
    allowedCidrRanges: z.array(Cidr),
    allowAllAgents: z.boolean(),
    allowedAgents: z
      .array(z.strictObject({ agentId: z.uuid(), toUserPattern: z.string().max(200).optional() }))
      .max(20, "At most 20 agents may be allowed."),
    fallbackHandler: z.strictObject({ url: z.url(), secrets: z.array(z.string()).optional() }).nullable(),
  })
  .partial();

const sipOf = ({ world, account }: Asked) => configs(world).get(`sip ${account.id}`)?.fields ?? {};

function sipView(asked: Asked) {
  return {
    allowedCidrRanges: [],
    allowAllAgents: false,
    allowedAgents: [],
    fallbackHandler: null,
    ...sipOf(asked),
    domain: `${asked.account.id}.sip.example`,
  };
}

function changeSip(asked: Asked): Reply {
  const given = parse(SipChange, asked.body);
  for (const { agentId, toUserPattern } of given.allowedAgents ?? []) {
    if (asked.world.agents.get(agentId)?.account !== asked.account.id)
      throw new Refusal(400, { allowedAgents: [`No agent ${agentId}.`] });
    if (toUserPattern !== undefined) refuseBadPattern(toUserPattern);
  }
  put(asked, `sip ${asked.account.id}`, { ...sipOf(asked), ...given });
  return { status: 200, body: sipView(asked) };
}

function refuseBadPattern(pattern: string) {
  try {
    new RegExp(pattern);
  } catch {
    throw new Refusal(400, { allowedAgents: [`${pattern} is not a regular expression.`] });
  }
}

const NewRegistration = z.strictObject({
  username: z.string().min(1).max(60),
  password: z.string().min(1),
  proxy: z.string().min(1).max(100),
  outboundProxy: z.string().max(100).nullish(),
  authUser: z.string().max(60).nullish(),
});

function listRegistrations(asked: Asked): Reply {
  const found = ownedBy(registrations(asked.world), asked.account);
  return { status: 200, body: page(sortByCreation(found, new URLSearchParams()), asked, view) };
}

function createRegistration({ world, account, body }: Asked): Reply {
  const { password: _, outboundProxy = null, authUser = null, ...given } = parse(NewRegistration, body);
  const { ordinal, random } = nextThing(world, "registration");
  const made = {
    id: random.uuid(),
    ordinal,
    account: account.id,
    created: Date.now(),
    outboundProxy,
    authUser,
    ...given,
  };
  registrations(world).set(made.id, made);
  return { status: 201, body: view(made) };
}

function changeRegistration(asked: Asked): Reply {
  const { password: _, ...given } = parse(NewRegistration.partial(), asked.body);
  return { status: 200, body: view(Object.assign(own(registrations(asked.world), asked), given)) };
}

function removeRegistration(asked: Asked): Reply {
  registrations(asked.world).delete(own(registrations(asked.world), asked).id);
  return { status: 204 };
}

/** A user name that begins with `refused` never registers. One that begins with `new` has not been tried. */
function view({ id, username, proxy, outboundProxy, authUser, created }: Registration) {
  return {
    registrationId: id,
    created: new Date(created).toISOString(),
    username,
    proxy,
    outboundProxy,
    authUser,
    successful: username.startsWith("new") ? null : !username.startsWith("refused"),
  };
}

const common = {
  callCreationAllowedAgentIds: z.array(z.uuid()).max(100).optional(),
  callCreationAllowAllAgents: z.boolean().optional(),
  requestContextMapping: z.record(z.string(), z.string()).optional(),
};
const NewConfig = {
  twilio: z.strictObject({ accountSid: z.string(), authToken: z.string(), ...common }),
  telnyx: z.strictObject({
    accountSid: z.string(),
    apiKey: z.string(),
    publicKey: z.string(),
    applicationSid: z.string().max(40),
    ...common,
  }),
  plivo: z.strictObject({ authId: z.string(), authToken: z.string(), ...common }),
} as const;

function configOf({ world, account }: Asked, name: CarrierName): Config {
  const found = configs(world).get(`${name} ${account.id}`);
  if (!found) throw new Refusal(404, "Not found.");
  return found;
}

function createConfig(asked: Asked, name: CarrierName): Reply {
  if (configs(asked.world).has(`${name} ${asked.account.id}`)) throw new Refusal(400, "It exists already.");
  const made = put(
    asked,
    `${name} ${asked.account.id}`,
    parse<z.ZodType<Record<string, unknown>>>(NewConfig[name], asked.body),
  );
  return { status: 201, body: configView(name, made) };
}

function changeConfig(asked: Asked, name: CarrierName): Reply {
  const config = configOf(asked, name);
  const partial: z.ZodType<Record<string, unknown>> = NewConfig[name].partial();
  Object.assign(config.fields, parse(partial, asked.body));
  return { status: 200, body: configView(name, config) };
}

function removeConfig(asked: Asked, name: CarrierName): Reply {
  configs(asked.world).delete(configOf(asked, name).id);
  return { status: 204 };
}

function put({ world, account }: Asked, id: string, fields: Record<string, unknown>): Config {
  const { ordinal } = nextThing(world, "telephony");
  const config = { id, ordinal, account: account.id, fields };
  configs(world).set(id, config);
  return config;
}

/** Only the beginning of a secret is ever returned. */
function configView(name: CarrierName, { fields }: Config) {
  const prefixOf = (secret: string) => ({ prefix: String(fields[secret] ?? "").slice(0, 4) });
  const { authToken: _, apiKey: __, publicKey: ___, ...shown } = fields;
  const base = {
    callCreationAllowedAgentIds: [],
    callCreationAllowAllAgents: false,
    requestContextMapping: {},
    ...shown,
  };
  if (name === "telnyx") return { ...base, apiKeyPrefix: prefixOf("apiKey"), publicKeyPrefix: prefixOf("publicKey") };
  return { ...base, authTokenPrefix: prefixOf("authToken") };
}
