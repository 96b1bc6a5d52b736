import { stringify } from "csv-stringify/sync";
import type { Tx } from "../../../db/client.ts";
import { ApiError } from "../../core/errors.ts";
import { type ShownCall, toCall } from "../resource.ts";
import type { Call } from "../schema.ts";
import { hasMoreThan, pageOfCalls, requireAgent } from "./list.ts";
import type { CallFilters } from "./schema.ts";

const maxRows = 100_000;
const pageRows = 500;

/** The columns of an export, in this order. Add new columns at the end only. */
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
  "fromStatus",
  "fromRaw",
  "toRaw",
] as const satisfies readonly (keyof Call)[];

/** Runs the work in one short read transaction. */
type Read = <T>(work: (tx: Tx) => Promise<T>) => Promise<T>;

/**
 * The calls that match the filters as CSV, newest first, each as it is when its page is read. More than 100,000 calls are
 * refused, since a cut table looks like a whole one. Calls created during the export are not included.
 */
export async function* exportCalls(read: Read, filters: CallFilters): AsyncGenerator<string, void, void> {
  let before: string | null = null;
  let header: string[][] = [[...exportColumns]];
  for (;;) {
    const page = async (tx: Tx): Promise<ShownCall[]> => pageOfCalls(tx, filters, before, pageRows);
    const rows: ShownCall[] = await read(before === null ? (tx) => firstPage(tx, filters, page) : page);
    yield stringify([...header, ...rows.map((row) => cellsOf(toCall(row)))]);
    header = [];
    before = rows.at(-1)?.call.id ?? null;
    if (rows.length < pageRows) return;
  }
}

async function firstPage<T>(tx: Tx, filters: CallFilters, page: (tx: Tx) => Promise<T>): Promise<T> {
  await requireAgent(tx, filters.agentId);
  if (await hasMoreThan(tx, filters, maxRows)) {
    throw new ApiError(
      "export_too_large",
      "More than 100,000 calls match these filters. Narrow them with `createdAfter` and `createdBefore`.",
    );
  }
  return page(tx);
}

/**
 * Spreadsheets read these as formulas, also after spaces and invisible characters, which some of them remove. A caller
 * chooses `fromRaw`.
 */
const formula = /^[\s\p{Cc}\p{Cf}]*[=+\-@\uff0b\uff0d\uff1d\uff20]|^[\t\r\n]/u;

/** Empty for null, JSON for objects, an apostrophe in front of a formula. */
function cellsOf(call: Call): string[] {
  return exportColumns.map((name) => {
    const value = call[name];
    if (value === null) return "";
    const text = typeof value === "object" ? JSON.stringify(value) : String(value);
    return formula.test(text) ? `'${text}` : text;
  });
}
