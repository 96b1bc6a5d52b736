import type { Database, Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { recordAudit } from "../../routers/core/audit.ts";
import { platformClientId } from "../../routers/core/authorize.ts";

export const actor = "operator:cli";

type Command = { subjectId?: string | null };

/** Runs one system transaction, audited like the API operation of the same name. */
export function audited<T>(
  db: Database,
  action: string,
  input: object,
  work: (tx: Tx) => Promise<T>,
  { subjectId = null }: Command = {},
): Promise<T> {
  const requestId = newId("request");
  return db.asSystem(
    async (tx) => {
      const result = await work(tx);
      await recordAudit(tx, { actor, action, subjectId, input, requestId });
      return result;
    },
    { requestId, clientId: platformClientId },
  );
}

/** For lists of which the command shows only the first page: their cursors are never used. */
export const pageKeyOf = (procedure: string) => ({
  secret: Buffer.alloc(32),
  clientId: platformClientId,
  procedure,
  filters: {},
});
