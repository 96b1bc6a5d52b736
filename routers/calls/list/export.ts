import { stringify } from "csv-stringify/sync";
import type { Tx } from "../../../db/client.ts";
import { ApiError } from "../../core/errors.ts";
import { type ShownCall, toCall } from "../resource.ts";
import type { Call, CallFilters } from "../schema.ts";
import { hasMoreThan, pageOfCalls, requireAgent } from "./list.ts";

const mostRows = 100_000;
const rowsAtOnce = 500;

/** What a table of calls has, in this order. Columns are only ever added, at the end. */
export const exportColumns = [
  "id",
  "createdAt",
  "joinedAt",
  "endedAt",
  "direction",
  "carrier",
  "to",
  "from",
  "status",
  "outcome",
  "outcomeFinal",
  "endReason",
  "failureReason",
  "durationSeconds",
  "billedSeconds",
  "costMicros",
  "agentId",
  "agentVersion",
  "transcriptStatus",
  "recordingStatus",
  "summary",
  "metadata",
  "variables",
  "output",
  "fromState",
  "fromRaw",
  "toRaw",
] as const satisfies readonly (keyof Call)[];

/** One short transaction that reads. */
type Reading = <T>(work: (tx: Tx) => Promise<T>) => Promise<T>;

/**
 * The calls that pass the filters as CSV, newest first, as they stand when their page is read. Half a table would pass for
 * a whole one: of more than 100 000 calls none is given. Calls made meanwhile are not in it.
 */
export async function* exportCalls(read: Reading, filters: CallFilters): AsyncGenerator<string, void, void> {
  let before: string | null = null;
  let heads: string[][] = [[...exportColumns]];
  for (;;) {
    const page = async (tx: Tx): Promise<ShownCall[]> => pageOfCalls(tx, filters, before, rowsAtOnce);
    const rows: ShownCall[] = await read(before === null ? (tx) => firstPage(tx, filters, page) : page);
    yield stringify([...heads, ...rows.map((row) => cellsOf(toCall(row)))], { escape_formulas: true });
    heads = [];
    before = rows.at(-1)?.call.id ?? null;
    if (rows.length < rowsAtOnce) return;
  }
}

async function firstPage<T>(tx: Tx, filters: CallFilters, page: (tx: Tx) => Promise<T>): Promise<T> {
  await requireAgent(tx, filters.agentId);
  if (await hasMoreThan(tx, filters, mostRows)) {
    throw new ApiError(
      "export_too_large",
      "More than 100 000 calls pass: narrow it by `createdAfter` and `createdBefore`.",
    );
  }
  return page(tx);
}

/** As a spreadsheet reads it: nothing for null, JSON for what has fields. */
function cellsOf(call: Call): string[] {
  return exportColumns.map((name) => {
    const value = call[name];
    if (value === null) return "";
    return typeof value === "object" ? JSON.stringify(value) : String(value);
  });
}
