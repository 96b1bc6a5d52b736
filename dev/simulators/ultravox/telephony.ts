import { z } from "zod";
import { page, sortByCreation } from "./page.ts";
import { parse, Refusal } from "./requests.ts";
import { own, ownedBy, type Reply, type Route, type SimulatorRequest } from "./route.ts";
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
const resource = "telephony" as const;
const read = { method: "GET", kind: "read", resource: resource } as const;
const change = { method: "PATCH", kind: "change", resource: resource } as const;
const removal = { method: "DELETE", kind: "change", resource: resource } as const;

export const telephonyRoutes: Route[] = [
  { ...read, template: "/api/sip", handle: (request) => ({ status: 200, body: sipView(request) }) },
  { ...change, template: "/api/sip", handle: changeSip },
  { ...read, template: "/api/sip/registrations", handle: listRegistrations },
  {
    method: "POST",
    template: "/api/sip/registrations",
    kind: "create",
    resource: resource,
    handle: createRegistration,
  },
  {
    ...read,
    template: registration,
    handle: (request) => ({ status: 200, body: view(own(registrations(request.world), request)) }),
  },
  { ...change, template: registration, handle: changeRegistration },
  { ...removal, template: registration, handle: removeRegistration },
  ...carriers.flatMap((name): Route[] => {
    const template = `/api/telephony_configs/${name}`;
    return [
      { ...read, template, handle: (request) => ({ status: 200, body: configView(name, configOf(request, name)) }) },
      {
        method: "POST",
        template,
        kind: "create",
        resource: resource,
        handle: (request) => createConfig(request, name),
      },
      { ...change, template, handle: (request) => changeConfig(request, name) },
      { ...removal, template, handle: (request) => removeConfig(request, name) },
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

const sipOf = ({ world, account }: SimulatorRequest) => configs(world).get(`sip ${account.id}`)?.fields ?? {};

function sipView(request: SimulatorRequest) {
  return {
    allowedCidrRanges: [],
    allowAllAgents: false,
    allowedAgents: [],
    fallbackHandler: null,
    ...sipOf(request),
    domain: `${request.account.id}.sip.example`,
  };
}

function changeSip(request: SimulatorRequest): Reply {
  const given = parse(SipChange, request.body);
  for (const { agentId, toUserPattern } of given.allowedAgents ?? []) {
    if (request.world.agents.get(agentId)?.account !== request.account.id)
      throw new Refusal(400, { allowedAgents: [`No agent ${agentId}.`] });
    if (toUserPattern !== undefined) refuseBadPattern(toUserPattern);
  }
  put(request, `sip ${request.account.id}`, { ...sipOf(request), ...given });
  return { status: 200, body: sipView(request) };
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

function listRegistrations(request: SimulatorRequest): Reply {
  const found = ownedBy(registrations(request.world), request.account);
  return { status: 200, body: page(sortByCreation(found, new URLSearchParams()), request, view) };
}

function createRegistration({ world, account, body }: SimulatorRequest): Reply {
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

function changeRegistration(request: SimulatorRequest): Reply {
  const { password: _, ...given } = parse(NewRegistration.partial(), request.body);
  return { status: 200, body: view(Object.assign(own(registrations(request.world), request), given)) };
}

function removeRegistration(request: SimulatorRequest): Reply {
  registrations(request.world).delete(own(registrations(request.world), request).id);
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

function configOf({ world, account }: SimulatorRequest, name: CarrierName): Config {
  const found = configs(world).get(`${name} ${account.id}`);
  if (!found) throw new Refusal(404, "Not found.");
  return found;
}

function createConfig(request: SimulatorRequest, name: CarrierName): Reply {
  if (configs(request.world).has(`${name} ${request.account.id}`)) throw new Refusal(400, "It exists already.");
  const made = put(
    request,
    `${name} ${request.account.id}`,
    parse<z.ZodType<Record<string, unknown>>>(NewConfig[name], request.body),
  );
  return { status: 201, body: configView(name, made) };
}

function changeConfig(request: SimulatorRequest, name: CarrierName): Reply {
  const config = configOf(request, name);
  const partial: z.ZodType<Record<string, unknown>> = NewConfig[name].partial();
  Object.assign(config.fields, parse(partial, request.body));
  return { status: 200, body: configView(name, config) };
}

function removeConfig(request: SimulatorRequest, name: CarrierName): Reply {
  configs(request.world).delete(configOf(request, name).id);
  return { status: 204 };
}

function put({ world, account }: SimulatorRequest, id: string, fields: Record<string, unknown>): Config {
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
