import type { Tx } from "../../db/client.ts";
import { newId } from "../../db/ids.ts";
import { statement } from "../../db/statement.ts";

export type AuditRow = { actor: string; action: string; subjectId: string | null; input: unknown; requestId: string };

const insertAudit = statement(
  "insert into audit_log (id, actor, action, subject_id, input, request_id) values ($1, $2, $3, $4, $5::text::jsonb, $6)",
);

/** Writes an audit row in the transaction of the command. `input` must already be redacted. Can go with the commit. */
export async function recordAudit(tx: Tx, { actor, action, subjectId, input, requestId }: AuditRow) {
  await insertAudit(tx, [newId("audit"), actor, action, subjectId, JSON.stringify(input ?? {}), requestId]);
}
