import type { Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { auditLog } from "../../db/schema/events.ts";

export type AuditRow = { actor: string; action: string; subjectId: string | null; input: unknown; requestId: string };

/** Writes an audit row in the transaction of the command. `input` must already be redacted. */
export async function recordAudit(tx: Tx, row: AuditRow) {
  await tx.insert(auditLog).values({ id: newId("audit"), ...row, input: row.input ?? {} });
}
