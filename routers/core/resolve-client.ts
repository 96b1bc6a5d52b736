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
  voice: { table: voices, fault: "voice_not_found" },
  call: { table: calls, fault: "call_not_found" },
  knowledgeBase: { table: knowledgeBases, fault: "knowledge_base_not_found" },
  workflow: { table: workflowRuns, fault: "workflow_not_found" },
} as const;

/** Which client's it is, in a transaction of the house. Throws the fault of the kind when it is nobody's. */
export async function clientOwning(tx: Tx, id: string): Promise<string> {
  const [prefix] = id.split("_");
  const kind = Object.entries(kinds).find(([name]) => prefixes[name as keyof typeof kinds] === prefix)?.[1];
  if (!kind) throw new Error(`Nothing of the services is named like ${id}.`);
  const [row] = await tx.select({ clientId: kind.table.clientId }).from(kind.table).where(eq(kind.table.id, id));
  if (!row) throw new ApiError(kind.fault, `There is no ${id}.`);
  return row.clientId;
}

/** A client is its own. Throws Fault `client_not_found`, also for the operator's. In a transaction of the house. */
export async function existingClient(tx: Tx, id: string): Promise<string> {
  const [row] = await tx.select({ id: clients.id }).from(clients).where(eq(clients.id, id));
  if (!row || id === platformClientId) throw new ApiError("client_not_found", `There is no client ${id}.`);
  return row.id;
}

/** The client that the token of an invitation leads to, whatever has become of the invitation since. */
export async function invitingClient(tx: Tx, hash: (token: string) => string, input: unknown): Promise<string> {
  const { token } = input as { token: string };
  const [row] = await tx
    .select({ clientId: invitations.clientId })
    .from(invitations)
    .where(eq(invitations.tokenHash, hash(token)));
  if (!row) throw new ApiError("invitation_not_found");
  return row.clientId;
}
