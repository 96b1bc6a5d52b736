import { newId } from "../../db/ids.ts";
import { recordAudit } from "../../routers/core/audit.ts";
import { platformClientId } from "../../routers/core/authorize.ts";
import { countSetApart, listSetApart, retryAllSetApart, retrySetApart } from "../../routers/set-apart/service.ts";
import type { CliContext } from "./cli-context.ts";
import { table } from "./table.ts";

const actor = "operator:cli";

export async function list({ db, say }: CliContext, { json = false }: { json?: boolean }) {
  // One page: whoever needs more asks the API.
  const key = { secret: Buffer.alloc(32), clientId: platformClientId, procedure: "operate", filters: {} };
  const seen = await db.asSystem(
    async (tx) => ({ loops: await countSetApart(tx), oldest: (await listSetApart(tx, { limit: 50 }, key)).items }),
    { mode: "read" },
  );
  if (json) return say(JSON.stringify(seen));
  if (seen.loops.length === 0) return say("No row is set apart.");
  say(table(seen.loops.map(({ loop, rows, last }) => [loop, `${rows} rows`, `last ${last.toISOString()}`])));
  say(table(seen.oldest.map((row) => [row.id, row.loop, row.subject, row.clientId ?? "", row.createdAt, row.reason])));
}

/** Audited as the operation of the API is. */
export async function retry({ db, say }: CliContext, input: { id?: string; loop?: string }) {
  const requestId = newId("request");
  const rows = await db.asSystem(
    async (tx) => {
      const { id, loop = null } = input;
      if (id !== undefined) await retrySetApart(tx, id);
      const retried = id === undefined ? await retryAllSetApart(tx, loop) : 1;
      await recordAudit(tx, { actor, action: "admin.setApart.retry", subjectId: id ?? null, input, requestId });
      return retried;
    },
    { requestId, clientId: platformClientId },
  );
  say(`${rows} to be retried by the next run of their loops.`);
}
