import { eq } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { prefixes } from "../../db/ids.ts";
import { calls } from "../../db/schema/calls.ts";
import { clients, invitations } from "../../db/schema/clients.ts";
import { knowledgeBases } from "../../db/schema/knowledge.ts";
import { voices } from "../../db/schema/voices.ts";
import { workflowRuns } from "../../db/schema/workflows.ts";
import { platformClientId } from "./authorize.ts";
import { ApiError } from "./errors.ts";

const kinds = {
  voice: { table: voices, notFound: "voice_not_found" },
  call: { table: calls, notFound: "call_not_found" },
  knowledgeBase: { table: knowledgeBases, notFound: "knowledge_base_not_found" },
  workflow: { table: workflowRuns, notFound: "workflow_not_found" },
} as const;

/** The client that owns a resource. Needs a system transaction. Throws the not-found error of the resource. */
export async function clientOwning(tx: Tx, id: string): Promise<string> {
  const [prefix] = id.split("_");
  const kind = Object.entries(kinds).find(([name]) => prefixes[name as keyof typeof kinds] === prefix)?.[1];
  if (!kind) throw new Error(`Service procedures have no resource with an id such as ${id}.`);
  const [row] = await tx.select({ clientId: kind.table.clientId }).from(kind.table).where(eq(kind.table.id, id));
  if (!row) throw new ApiError(kind.notFound, `There is no resource with the id ${id}.`);
  return row.clientId;
}

/** The client itself, if it exists. Needs a system transaction. Throws `client_not_found`, also for the operator's client. */
export async function existingClient(tx: Tx, id: string): Promise<string> {
  const [row] = await tx.select({ id: clients.id }).from(clients).where(eq(clients.id, id));
  if (!row || id === platformClientId) throw new ApiError("client_not_found", `There is no client ${id}.`);
  return row.id;
}

/** The client of an invitation token, whatever the status of the invitation. Needs a system transaction. */
export async function invitingClient(tx: Tx, hash: (token: string) => string, input: unknown): Promise<string> {
  const { token } = input as { token: string };
  const [row] = await tx
    .select({ clientId: invitations.clientId })
    .from(invitations)
    .where(eq(invitations.tokenHash, hash(token)));
  if (!row) throw new ApiError("invitation_not_found");
  return row.clientId;
}
