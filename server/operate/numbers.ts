import {
  assignNumber,
  listAllRoutes,
  listNumbers,
  reassignNumber,
  releaseNumber,
} from "../../routers/telephony/numbers.ts";
import { AssignNumber } from "../../routers/telephony/numbers-schema.ts";
import { actor, audited, pageKeyOf } from "./audited.ts";
import type { CliContext } from "./cli-context.ts";
import { table } from "./table.ts";

type ListOptions = { client?: string; waiting?: true; limit: number; json?: boolean };

/** Assigned numbers; with `waiting`, the routes that wait for a number. */
export async function list({ db, print }: CliContext, { client: clientId, waiting, limit, json = false }: ListOptions) {
  const rows = await db.asSystem(
    async (tx) => {
      if (waiting) return (await listAllRoutes(tx, { limit, status: "waiting", clientId }, pageKeyOf("routes"))).items;
      return (await listNumbers(tx, { limit, clientId }, pageKeyOf("numbers"))).items;
    },
    { mode: "read" },
  );
  if (json) return print(JSON.stringify(rows));
  if (rows.length === 0) return print(waiting ? "No route waits for a number." : "No number is assigned.");
  print(table(rows.map(({ id, pattern, clientId, createdAt }) => [id, pattern, clientId, createdAt])));
}

export async function assign({ db, print }: CliContext, clientId: string, pattern: string, maxRoutes: number) {
  const input = AssignNumber.parse({ clientId, pattern, maxRoutes });
  const assigned = await audited(db, "admin.numbers.assign", input, (tx) => assignNumber(tx, input, actor));
  print(`Assigned: ${assigned.pattern} to ${assigned.clientId}, as ${assigned.id}.`);
}

export async function reassign({ db, print }: CliContext, id: string, clientId: string) {
  const input = { id, clientId };
  const assigned = await audited(db, "admin.numbers.reassign", input, (tx) => reassignNumber(tx, input, actor));
  print(`Assigned: ${assigned.pattern} to ${assigned.clientId}.`);
}

export async function release({ db, print }: CliContext, id: string) {
  await audited(db, "admin.numbers.release", { id }, (tx) => releaseNumber(tx, id));
  print(`Released: ${id}.`);
}
