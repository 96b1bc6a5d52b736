import type { Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { recordAudit } from "../../routers/core/audit.ts";
import { platformClientId } from "../../routers/core/authorize.ts";
import {
  assignNumber,
  listAllRoutes,
  listNumbers,
  reassignNumber,
  releaseNumber,
} from "../../routers/telephony/numbers.ts";
import { AssignNumber } from "../../routers/telephony/numbers-schema.ts";
import type { CliContext } from "./cli-context.ts";
import { table } from "./table.ts";

const actor = "operator:cli";
const keyOf = (procedure: string) => ({ secret: Buffer.alloc(32), clientId: platformClientId, procedure, filters: {} });

type ListOptions = { client?: string; waiting?: true; limit: number; json?: boolean };

/** What is assigned to whom; with `waiting`, which routes ask for a number. */
export async function list({ db, say }: CliContext, { client: clientId, waiting, limit, json = false }: ListOptions) {
  const of = clientId ? { clientId } : {};
  const rows = await db.asSystem(
    async (tx) => {
      if (waiting) return (await listAllRoutes(tx, { limit, status: "waiting", ...of }, keyOf("routes"))).items;
      return (await listNumbers(tx, { limit, ...of }, keyOf("numbers"))).items;
    },
    { mode: "read" },
  );
  if (json) return say(JSON.stringify(rows));
  if (rows.length === 0) return say(waiting ? "No route waits for a number." : "No number is assigned.");
  say(table(rows.map(({ id, pattern, clientId, createdAt }) => [id, pattern, clientId, createdAt])));
}

export async function assign({ db, say }: CliContext, clientId: string, pattern: string, maxRoutes: number) {
  const input = AssignNumber.parse({ clientId, pattern, maxRoutes });
  const made = await command(db, "admin.numbers.assign", input, (tx) => assignNumber(tx, input, actor));
  say(`Assigned: ${made.pattern} to ${made.clientId}, as ${made.id}.`);
}

export async function reassign({ db, say }: CliContext, id: string, clientId: string) {
  const input = { id, clientId };
  const made = await command(db, "admin.numbers.reassign", input, (tx) => reassignNumber(tx, input, actor));
  say(`Assigned: ${made.pattern} to ${made.clientId}.`);
}

export async function release({ db, say }: CliContext, id: string) {
  await command(db, "admin.numbers.release", { id }, (tx) => releaseNumber(tx, id));
  say(`Released: ${id}.`);
}

/** One system transaction, audited as the endpoint of the same name is. */
function command<T>(db: CliContext["db"], action: string, input: object, work: (tx: Tx) => Promise<T>): Promise<T> {
  const requestId = newId("request");
  return db.asSystem(
    async (tx) => {
      const done = await work(tx);
      await recordAudit(tx, { actor, action, subjectId: null, input, requestId });
      return done;
    },
    { requestId, clientId: platformClientId },
  );
}
