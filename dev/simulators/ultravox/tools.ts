import { z } from "zod";
import { page } from "./page.ts";
import { parse, Refusal } from "./requests.ts";
import { own, ownedBy, type Reply, type Route, type SimulatorRequest } from "./route.ts";
import { nextThing, shelf, type Thing, type World } from "./state.ts";

const Json = z.record(z.string(), z.unknown());
const place = {
  name: z.string().min(1),
  location: z.enum([
    "PARAMETER_LOCATION_QUERY",
    "PARAMETER_LOCATION_PATH",
    "PARAMETER_LOCATION_HEADER",
    "PARAMETER_LOCATION_BODY",
  ]),
};
const named = z.strictObject({ name: z.string().min(1) });
const Requirement = z
  .strictObject({
    queryApiKey: named,
    headerApiKey: named,
    httpAuth: z.strictObject({ scheme: z.string().min(1) }),
  })
  .partial()
  .refine((one) => Object.keys(one).length === 1, { message: "Exactly one kind of requirement is needed." });

/** After ultravox.v1.BaseToolDefinition. */
const Definition = z
  .strictObject({
    modelToolName: z.string().regex(/^[a-zA-Z0-9_-]{1,64}$/, "Must match ^[a-zA-Z0-9_-]{1,64}$."),
    description: z.string(),
    dynamicParameters: z.array(z.strictObject({ ...place, schema: Json, required: z.boolean().optional() })),
    staticParameters: z.array(z.strictObject({ ...place, value: z.unknown() })),
    automaticParameters: z.array(
      z.strictObject({ ...place, knownValue: z.string().regex(/^KNOWN_PARAM_[A-Z_]+$/, "Unknown value.") }),
    ),
    requirements: z
      .strictObject({
        httpSecurityOptions: z.strictObject({
          options: z.array(
            z
              .strictObject({ requirements: z.record(z.string(), Requirement), ultravoxCallTokenRequirement: Json })
              .partial(),
          ),
        }),
        requiredParameterOverrides: z.array(z.string()),
      })
      .partial(),
    timeout: z.string().regex(/^(?:0|[1-9][0-9]{0,11})(?:\.[0-9]{1,9})?s$/, 'A duration looks like "30s".'),
    precomputable: z.boolean(),
    http: z.strictObject({ baseUrlPattern: z.url(), httpMethod: z.enum(["GET", "POST", "PUT", "PATCH", "DELETE"]) }),
    client: z.strictObject({}),
    dataConnection: z.strictObject({}),
    defaultReaction: z.enum([
      "AGENT_REACTION_UNSPECIFIED",
      "AGENT_REACTION_SPEAKS",
      "AGENT_REACTION_LISTENS",
      "AGENT_REACTION_SPEAKS_ONCE",
    ]),
    staticResponse: z.strictObject({ responseText: z.string() }).partial(),
  })
  .partial()
  .refine((made) => [made.http, made.client, made.dataConnection].filter(Boolean).length === 1, {
    message: "Exactly one of http, client and dataConnection is needed.",
  })
  .refine((made) => made.http !== undefined || placesOf(made).every((each) => each === "PARAMETER_LOCATION_BODY"), {
    message: "Only body parameters are allowed for this kind of tool.",
  });

const NewTool = z.strictObject({ name: z.string().min(1).max(40), definition: Definition });

interface Tool extends Thing {
  name: string;
  created: number;
  definition: z.output<typeof Definition>;
}

const stock = (world: World) => shelf<Tool>(world, "tool");

export const toolRoutes: Route[] = [
  { method: "GET", template: "/api/tools", kind: "read", resource: "tools", handle: listTools },
  { method: "POST", template: "/api/tools", kind: "create", resource: "tools", handle: createTool },
  { method: "GET", template: "/api/tools/{tool_id}", kind: "read", resource: "tools", handle: getTool },
  { method: "PUT", template: "/api/tools/{tool_id}", kind: "change", resource: "tools", handle: replaceTool },
  { method: "DELETE", template: "/api/tools/{tool_id}", kind: "change", resource: "tools", handle: removeTool },
];

/** Public tools are not simulated: a list of public tools is empty. */
function listTools({ world, account, query, address }: SimulatorRequest): Reply {
  const search = query.get("search")?.toLowerCase() ?? "";
  const mine = query.get("ownership") === "public" ? [] : ownedBy(stock(world), account);
  const found = mine.filter(({ name }) => name.toLowerCase().includes(search));
  return { status: 200, body: page(sorted(found, query.get("sortOrder") ?? "default"), { query, address }, view) };
}

/** Cursors are ordinals, so sorting by name is not supported here. */
function sorted(tools: Tool[], order: string): Tool[] {
  const oldestFirst = order === "chronologic";
  if (!oldestFirst && !["default", "display", "reverseChronologic"].includes(order)) {
    throw new Refusal(400, { sortOrder: [`The simulator cannot sort by ${order}.`] });
  }
  return tools.toSorted((a, b) => (oldestFirst ? a.ordinal - b.ordinal : b.ordinal - a.ordinal));
}

function createTool({ world, account, body }: SimulatorRequest): Reply {
  const { name, definition } = parse(NewTool, body);
  const { ordinal, random } = nextThing(world, "tool");
  const tool: Tool = { id: random.uuid(), ordinal, account: account.id, name, created: Date.now(), definition };
  stock(world).set(tool.id, tool);
  return { status: 201, body: view(tool) };
}

function getTool(request: SimulatorRequest): Reply {
  return { status: 200, body: view(own(stock(request.world), request)) };
}

function replaceTool(request: SimulatorRequest): Reply {
  const tool = own(stock(request.world), request);
  Object.assign(tool, parse(NewTool, request.body));
  return { status: 200, body: view(tool) };
}

function removeTool(request: SimulatorRequest): Reply {
  stock(request.world).delete(own(stock(request.world), request).id);
  return { status: 204 };
}

function view({ id, name, created, definition }: Tool) {
  return { toolId: id, name, created: new Date(created).toISOString(), definition, ownership: "private" };
}

type Placed = { location: string }[] | undefined;

function placesOf(made: { dynamicParameters?: Placed; staticParameters?: Placed; automaticParameters?: Placed }) {
  const { dynamicParameters = [], staticParameters = [], automaticParameters = [] } = made;
  return [...dynamicParameters, ...staticParameters, ...automaticParameters].map(({ location }) => location);
}
