import { and, eq, inArray, ne, or, sql } from "drizzle-orm";
import { z } from "zod";
import type { Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { tools } from "../../db/schema/tools.ts";
import { ApiError } from "../core/errors.ts";
import { canonical } from "../core/pagination.ts";
import type { ProviderCommand } from "../core/provider-command.ts";
import { resyncAgentsUsing } from "../core/resync-agents.ts";
import { oddMarksIn } from "../core/template-text.ts";
import { accountFor } from "../credentials/accounts.ts";
import { requireCredential } from "../credentials/service.ts";
import { type AddressRules, objectionTo } from "../ports/addresses.ts";
import type { Providers } from "../ports/index.ts";
import type { Deadline } from "../ports/provider-error.ts";
import type { ToolDefinition } from "../ports/ultravox.ts";
import { Config, Definition, providersNames } from "./definition.ts";
import type { CreateTool, Tool, UpdateTool } from "./schema.ts";
import { changeTool, emitToolEvent, getTool, lockTool, refuseBusy, removeUpstream, type ToolRow } from "./service.ts";
import { usesOfTool } from "./templated.ts";
import { credentialOf, toolDefinition } from "./upstream.ts";
import { filledIn } from "./url-pattern.ts";

type WithRules<I> = I & { rules: AddressRules };
/** `definition` is null where the provider has nothing to do: it brings the tool itself, or need not know of the change. */
type Asked = {
  id: string;
  providerToolId: string | null;
  definition: ToolDefinition | null;
  /** What the provider has of it so far. */
  before?: ToolDefinition;
};
type Got = { providerToolId: string | null };

/** What the provider is being asked to make of a tool: kept in its row until it has. */
const Content = z.object({
  name: z.string(),
  description: z.string(),
  definition: Definition,
  metadata: z.record(z.string(), z.string()),
});
type Content = z.output<typeof Content>;

/** Makes a tool here and at the provider, where its name is our id. */
export const createTool: ProviderCommand<WithRules<CreateTool>, Asked, Got, Tool> = {
  kind: "tools.create",
  status: 201,
  busyCode: "tool_busy",

  async prepare(tx, { rules, ...content }) {
    await check(tx, content, rules);
    await takeName(tx, content, null);
    const { name, description, definition, metadata } = content;
    const id = newId("tool");
    const providerAccountId = await accountFor(tx);
    const shown = { name, description, kind: definition.type, config: { definition }, metadata };
    await tx.insert(tools).values({ id, ...shown, pending: content, status: "provisioning", providerAccountId });
    const asked = { id, providerToolId: null, definition: toolDefinition(content) };
    return { subjectId: id, providerAccountId, request: asked };
  },

  async execute({ ultravox }, accountId, { id, definition }, deadline) {
    if (!definition) return { providerToolId: null };
    return ultravox.createTool(accountId, { id, definition }, deadline);
  },

  async onAccepted(tx, subjectId, { providerToolId }) {
    const { row } = await goLive(tx, subjectId, { providerToolId });
    await emitToolEvent(tx, "tool.created", row);
  },

  async onFailed(tx, subjectId, { message }) {
    await changeTool(tx, subjectId, { status: "failed", statusReason: message, pending: null });
  },

  onUnknown: async () => {}, // it stays `provisioning` until the safety job knows
  read: getTool,
  rebuildRequest: async (tx, subjectId) => askedOf(await lockTool(tx, subjectId)),

  async lookup({ ultravox }, accountId, { id, definition }, _since, deadline) {
    if (!definition) return [{ providerToolId: null }];
    return ultravox.findTools(accountId, id, deadline);
  },

  async onOrphan(tx, subjectId, accountId, { providerToolId }) {
    const [tool] = await tx.select().from(tools).where(eq(tools.id, subjectId));
    if (providerToolId && tool?.providerToolId !== providerToolId) await removeUpstream(tx, accountId, providerToolId);
  },
};

/** Changes a tool: the provider takes the whole definition again, and agents have it from then on. */
export const updateTool: ProviderCommand<WithRules<UpdateTool>, Asked, Got, Tool> = {
  kind: "tools.update",
  status: 200,
  busyCode: "tool_busy",

  async prepare(tx, { id, rules, ...changes }) {
    const tool = await lockTool(tx, id);
    await refuseBusy(tx, id);
    if (tool.status !== "active") {
      throw new ApiError("tool_not_active", `Tool ${id} is ${tool.status}; only an active one can be changed.`);
    }
    if (changes.definition) refuseOtherKind(tool, changes.definition);
    const given = Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined));
    const pending = Content.parse({ ...contentOf(tool), ...given });
    if (changes.definition) await check(tx, pending, rules);
    else refuseOddMarks(pending, Object.keys(given));
    if (pending.name !== tool.name) await takeName(tx, pending, id);
    await tx.update(tools).set({ pending }).where(eq(tools.id, id));
    return { subjectId: id, providerAccountId: tool.providerAccountId, request: askedOf({ ...tool, pending }) };
  },

  execute: replace,

  async onAccepted(tx, subjectId, got) {
    const { row, changed } = await goLive(tx, subjectId, got);
    if (!changed) return;
    await resyncAgentsUsing(tx, "tool", subjectId);
    await emitToolEvent(tx, "tool.updated", row);
  },

  async onFailed(tx, subjectId) {
    await tx.update(tools).set({ pending: null }).where(eq(tools.id, subjectId));
  },

  onUnknown: async () => {}, // the change stays pending, and the tool busy, until the safety job knows
  read: getTool,
  rebuildRequest: async (tx, subjectId) => askedOf(await lockTool(tx, subjectId)),

  lookupRepeatsRequest: true,
  look: lookForDefinition,
  /** The whole definition is sent, so asking again is harmless, and surer than comparing. */
  lookup: async (providers, accountId, asked, _since, deadline) => [
    await replace(providers, accountId, asked, deadline),
  ],
};

async function replace({ ultravox }: Providers, accountId: string, asked: Asked, deadline: Deadline): Promise<Got> {
  const { id, providerToolId, definition } = asked;
  if (!definition || !providerToolId) return { providerToolId };
  return ultravox.replaceTool(accountId, providerToolId, { id, definition }, deadline);
}

/** Has the provider the new definition, or still the one before? One that is neither was put into other words: null. */
async function lookForDefinition(
  { ultravox }: Providers,
  accountId: string,
  { providerToolId, definition, before }: Asked,
  deadline: Deadline,
): Promise<Got[] | null> {
  if (!providerToolId) return null;
  const there = await ultravox.getTool(accountId, providerToolId, deadline);
  if (!there) return [];
  if (isSame(there.definition, definition)) return [there];
  return isSame(there.definition, before) ? [] : null;
}

const contentOf = ({ name, description, config, metadata }: ToolRow): Content =>
  Content.parse({ name, description, ...Config.parse(config), metadata });

/** What the provider is to be asked, by what stands in the row; nothing where it would hear what it knows. */
function askedOf(tool: ToolRow): Asked {
  const wanted = toolDefinition(Content.parse(tool.pending));
  const before = toolDefinition(contentOf(tool));
  const isKnown = tool.providerToolId !== null && isSame(wanted, before);
  const known = before ? { before } : {};
  return { id: tool.id, providerToolId: tool.providerToolId, definition: isKnown ? null : wanted, ...known };
}

const isSame = (one: unknown, other: unknown) => JSON.stringify(canonical(one)) === JSON.stringify(canonical(other));

/** What was pending is the tool from now on. A change that changed nothing leaves its version as it was. */
async function goLive(tx: Tx, id: string, { providerToolId }: Got) {
  const tool = await lockTool(tx, id);
  const content = Content.parse(tool.pending);
  const changed = tool.status !== "active" || !isSame(content, contentOf(tool));
  if (!changed) {
    await tx.update(tools).set({ pending: null }).where(eq(tools.id, id));
    return { row: tool, changed };
  }
  const { name, description, definition, metadata } = content;
  const live = { status: "active", statusReason: null, version: tool.version + 1, pending: null } as const;
  const row = await changeTool(tx, id, {
    name,
    description,
    config: { definition },
    metadata,
    ...live,
    providerToolId,
  });
  return { row, changed };
}

function refuseOtherKind({ kind }: ToolRow, { type }: Definition) {
  if (type === kind) return;
  const message = `A tool keeps its kind, and this one is ${kind}: make another one.`;
  throw new ApiError("input_invalid", message, { details: [{ path: "definition.type", message }] });
}

/** What stands in double braces and is no variable would be sent as nothing, or as something else. */
function refuseOddMarks(content: Described, changed = ["description", "definition"]) {
  const details = usesOfTool(content)
    .filter(({ path }) => changed.includes(path.split(".")[0] ?? ""))
    .flatMap(({ path, text }) =>
      oddMarksIn(text).map((name) => {
        return { path, message: `uses {{${name}}}, which is no variable: a name is letters, digits and \`_\`.` };
      }),
    );
  const [first] = details;
  if (first) throw new ApiError("input_invalid", `${first.path}: ${first.message}`, { details });
}

type Described = Pick<Content, "description" | "definition">;

/** Looks at what the definition names outside itself. */
async function check(tx: Tx, content: Described, rules: AddressRules) {
  refuseOddMarks(content);
  const { definition } = content;
  if (definition.type === "http") {
    const message = objectionTo(filledIn(definition.url), rules);
    if (message) throw new ApiError("url_forbidden", message, { details: [{ path: "definition.url", message }] });
  }
  const credential = credentialOf(definition);
  if (credential) await needCredential(tx, credential);
}

async function needCredential(tx: Tx, provider: string) {
  try {
    await requireCredential(tx, provider);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    const { errorCode, message } = error;
    throw new ApiError(errorCode, message, { details: [{ path: "definition.auth.credential", message }] });
  }
}

/**
 * Sees to it that no other tool has the name, nor is about to. Whoever wants the same name waits here until this
 * transaction ends: a name that is only pending stands in no index.
 */
async function takeName(tx: Tx, { name, definition }: Pick<Content, "name" | "definition">, ownId: string | null) {
  const shadowed = providersNames.find((builtin) => builtin.toLowerCase() === name.toLowerCase());
  const isItself = definition.type === "builtin" && definition.name === name;
  const refuse = (message: string) => {
    throw new ApiError("tool_name_taken", message, { details: [{ path: "name", message }] });
  };
  if (shadowed && !isItself) refuse(`${shadowed} is a tool of the voice provider itself: choose another name.`);
  await tx.execute(sql`select pg_advisory_xact_lock(
    hashtextextended(${`tools.name:${name}:`} || current_setting('app.client_id'), 0))`);
  const [taken] = await tx
    .select({ id: tools.id })
    .from(tools)
    .where(
      and(
        inArray(tools.status, ["provisioning", "active"]),
        or(eq(tools.name, name), sql`${tools.pending} ->> 'name' = ${name}`),
        ownId ? ne(tools.id, ownId) : undefined,
      ),
    )
    .limit(1);
  if (taken) refuse(`The tool ${taken.id} is called ${name} already: choose another name.`);
}
