import { and, eq, inArray, ne, or, sql } from "drizzle-orm";
import { z } from "zod";
import { type Tx, withCommit } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { tools } from "../../db/schema/tools.ts";
import { ApiError } from "../core/errors.ts";
import { canonical } from "../core/pagination.ts";
import type { ProviderCommand } from "../core/provider-command.ts";
import { refuseInvalid } from "../core/refuse-invalid.ts";
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
import {
  changeTool,
  emitToolEvent,
  getTool,
  lockTool,
  refuseBusy,
  removeUpstream,
  type ToolRow,
  toTool,
} from "./service.ts";
import { usesOfTool } from "./templated.ts";
import { credentialOf, toolDefinition } from "./upstream.ts";
import { filledIn } from "./url-pattern.ts";

type WithRules<I> = I & { rules: AddressRules };
/** `definition` is null if the provider needs no request: the tool is built in, or the change does not concern it. */
type ProviderRequest = {
  id: string;
  providerToolId: string | null;
  definition: ToolDefinition | null;
  /** The definition that the provider has now. */
  before?: ToolDefinition | undefined;
};
type ProviderResult = { providerToolId: string | null };

/** The pending content of a tool: stored in its row until the provider has accepted it. */
const Content = z.object({
  name: z.string(),
  description: z.string(),
  definition: Definition,
  metadata: z.record(z.string(), z.string()),
});
type Content = z.output<typeof Content>;

/** Creates a tool here and at the provider, where its name is our id. */
export const createTool: ProviderCommand<
  WithRules<CreateTool>,
  ProviderRequest,
  ProviderResult,
  Tool,
  undefined,
  ToolRow
> = {
  kind: "tools.create",
  status: 201,
  busyCode: "tool_busy",

  async prepare(tx, { rules, ...content }) {
    await check(tx, content, rules);
    const [providerAccountId] = await Promise.all([accountFor(tx), reserveName(tx, content, null)]);
    const { name, description, definition, metadata } = content;
    const id = newId("tool");
    const shown = { name, description, kind: definition.type, config: { definition }, metadata };
    const row = { id, ...shown, pending: content, status: "provisioning", providerAccountId } as const;
    return {
      subjectId: id,
      providerAccountId,
      request: { id, providerToolId: null, definition: toolDefinition(content) },
      writing: tx.insert(tools).values(row).execute(),
    };
  },

  async execute({ ultravox }, accountId, { id, definition }, deadline) {
    if (!definition) return { providerToolId: null };
    return ultravox.createTool(accountId, { id, definition }, deadline);
  },

  lockFirst: lockTool,

  async onAccepted(tx, _subjectId, { providerToolId }, tool) {
    const { row } = await goLive(tx, tool, { providerToolId });
    withCommit(tx, () => emitToolEvent(tx, "tool.created", row));
    return toTool(row);
  },

  async onFailed(tx, subjectId, { message }) {
    await changeTool(tx, subjectId, { status: "failed", statusReason: message, pending: null });
  },

  onUnknown: async () => {}, // the tool stays `provisioning` until the recovery job settles it
  read: getTool,
  rebuildRequest: async (tx, subjectId) => requestFor(await lockTool(tx, subjectId)),

  async lookup({ ultravox }, accountId, { id, definition }, _since, deadline) {
    if (!definition) return [{ providerToolId: null }];
    return ultravox.findTools(accountId, id, deadline);
  },

  async onOrphan(tx, subjectId, accountId, { providerToolId }) {
    const [tool] = await tx.select().from(tools).where(eq(tools.id, subjectId));
    if (providerToolId && tool?.providerToolId !== providerToolId) await removeUpstream(tx, accountId, providerToolId);
  },
};

/** Changes a tool: the provider gets the whole definition again, and the agents that use it are sent again. */
export const updateTool: ProviderCommand<
  WithRules<UpdateTool>,
  ProviderRequest,
  ProviderResult,
  Tool,
  undefined,
  ToolRow
> = {
  kind: "tools.update",
  status: 200,
  busyCode: "tool_busy",

  async prepare(tx, { id, rules, ...changes }) {
    const tool = await lockTool(tx, id);
    await refuseBusy(tx, id);
    if (tool.status !== "active") {
      throw new ApiError("tool_not_active", `Tool ${id} is ${tool.status}. Only an active tool can be updated.`);
    }
    if (changes.definition) refuseOtherKind(tool, changes.definition);
    const given = Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined));
    const pending = Content.parse({ ...contentOf(tool), ...given });
    if (changes.definition) await check(tx, pending, rules);
    else refuseOddMarks(pending, Object.keys(given));
    if (pending.name !== tool.name) await reserveName(tx, pending, id);
    await tx.update(tools).set({ pending }).where(eq(tools.id, id));
    return { subjectId: id, providerAccountId: tool.providerAccountId, request: requestFor({ ...tool, pending }) };
  },

  execute: replace,

  lockFirst: lockTool,

  async onAccepted(tx, subjectId, result, tool) {
    const { row, changed } = await goLive(tx, tool, result);
    if (changed) {
      await resyncAgentsUsing(tx, "tool", subjectId);
      withCommit(tx, () => emitToolEvent(tx, "tool.updated", row));
    }
    return toTool(row);
  },

  async onFailed(tx, subjectId) {
    await tx.update(tools).set({ pending: null }).where(eq(tools.id, subjectId));
  },

  onUnknown: async () => {}, // the change stays pending, and the tool busy, until the recovery job settles it
  read: getTool,
  rebuildRequest: async (tx, subjectId) => requestFor(await lockTool(tx, subjectId)),

  lookupRepeatsRequest: true,
  look: lookForDefinition,
  /** The request holds the whole definition, so to repeat it is harmless, and more certain than a comparison. */
  lookup: async (providers, accountId, request, _since, deadline) => [
    await replace(providers, accountId, request, deadline),
  ],
};

async function replace(
  { ultravox }: Providers,
  accountId: string,
  request: ProviderRequest,
  deadline: Deadline,
): Promise<ProviderResult> {
  const { id, providerToolId, definition } = request;
  if (!definition || !providerToolId) return { providerToolId };
  return ultravox.replaceTool(accountId, providerToolId, { id, definition }, deadline);
}

/**
 * Checks whether the provider stored the new definition. Returns an empty array if it still has the old one, and null if
 * it has neither: the provider may normalize a definition.
 */
async function lookForDefinition(
  { ultravox }: Providers,
  accountId: string,
  { providerToolId, definition, before }: ProviderRequest,
  deadline: Deadline,
): Promise<ProviderResult[] | null> {
  if (!providerToolId) return null;
  const stored = await ultravox.getTool(accountId, providerToolId, deadline);
  if (!stored) return [];
  if (isSame(stored.definition, definition)) return [stored];
  return isSame(stored.definition, before) ? [] : null;
}

const contentOf = ({ name, description, config, metadata }: ToolRow): Content =>
  Content.parse({ name, description, ...Config.parse(config), metadata });

/** The request to the provider, built from the row. It has no definition if the provider already has the same one. */
function requestFor(tool: ToolRow): ProviderRequest {
  const wanted = toolDefinition(Content.parse(tool.pending));
  const before = toolDefinition(contentOf(tool)) ?? undefined;
  const isUnchanged = tool.providerToolId !== null && isSame(wanted, before);
  return { id: tool.id, providerToolId: tool.providerToolId, definition: isUnchanged ? null : wanted, before };
}

const isSame = (one: unknown, other: unknown) => JSON.stringify(canonical(one)) === JSON.stringify(canonical(other));

/** Makes the pending content live. Without a difference, the version stays as it was. */
async function goLive(tx: Tx, tool: ToolRow, { providerToolId }: ProviderResult) {
  const { id } = tool;
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
  throw ApiError.invalid(
    "definition.type",
    `The type of a tool cannot change; this one is ${kind}. Create another tool.`,
  );
}

/** The provider replaces double braces that are not a variable by nothing, or by other text. */
function refuseOddMarks(content: Described, changed = ["description", "definition"]) {
  const details = usesOfTool(content)
    .filter(({ path }) => changed.includes(path.split(".")[0] ?? ""))
    .flatMap(({ path, text }) =>
      oddMarksIn(text).map((name) => {
        return { path, message: `uses {{${name}}}, which is not a variable: a name is letters, digits and \`_\`.` };
      }),
    );
  refuseInvalid(details);
}

type Described = Pick<Content, "description" | "definition">;

/** Checks what the definition refers to: its variables, its URL and its credential. */
async function check(tx: Tx, content: Described, rules: AddressRules) {
  refuseOddMarks(content);
  const { definition } = content;
  if (definition.type === "http") {
    const message = objectionTo(filledIn(definition.url), rules);
    if (message) throw new ApiError("url_forbidden", message, { details: [{ path: "definition.url", message }] });
  }
  const credential = credentialOf(definition);
  if (credential) await checkCredential(tx, credential);
}

async function checkCredential(tx: Tx, provider: string) {
  try {
    await requireCredential(tx, provider);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    const { errorCode, message } = error;
    throw new ApiError(errorCode, message, { details: [{ path: "definition.auth.credential", message }] });
  }
}

/**
 * Throws if another tool has the name, or will have it. The lock makes another transaction with the same name wait until
 * this one ends: no index contains a pending name.
 */
async function reserveName(tx: Tx, { name, definition }: Pick<Content, "name" | "definition">, ownId: string | null) {
  const shadowed = providersNames.find((builtin) => builtin.toLowerCase() === name.toLowerCase());
  const isItself = definition.type === "builtin" && definition.name === name;
  const refuse = (message: string) => {
    throw new ApiError("tool_name_taken", message, { details: [{ path: "name", message }] });
  };
  if (shadowed && !isItself) refuse(`${shadowed} is a built-in tool of the voice provider. Choose another name.`);
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
  if (taken) refuse(`Another tool has the name ${name}. Choose another name.`);
}
