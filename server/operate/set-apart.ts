import { countSetApart, listSetApart, retryAllSetApart, retrySetApart } from "../../routers/set-apart/service.ts";
import { audited, pageKeyOf } from "./audited.ts";
import type { CliContext } from "./cli-context.ts";
import { table } from "./table.ts";

export async function list({ db, print }: CliContext, { json = false }: { json?: boolean }) {
  // The first page; the API has the others.
  const key = pageKeyOf("operate");
  const seen = await db.asSystem(
    async (tx) => ({ loops: await countSetApart(tx), oldest: (await listSetApart(tx, { limit: 50 }, key)).items }),
    { mode: "read" },
  );
  if (json) return print(JSON.stringify(seen));
  if (seen.loops.length === 0) return print("No row is set apart.");
  print(table(seen.loops.map(({ loop, rows, last }) => [loop, `${rows} rows`, `last ${last.toISOString()}`])));
  print(
    table(seen.oldest.map((row) => [row.id, row.loop, row.subject, row.clientId ?? "", row.createdAt, row.reason])),
  );
}

export async function retry({ db, print }: CliContext, input: { id?: string; loop?: string }) {
  const { id, loop = null } = input;
  const rows = await audited(
    db,
    "admin.setApart.retry",
    input,
    async (tx) => {
      if (id === undefined) return retryAllSetApart(tx, loop);
      await retrySetApart(tx, id);
      return 1;
    },
    { subjectId: id ?? null },
  );
  print(`${rows} rows will be retried by the next run of their loops.`);
}
