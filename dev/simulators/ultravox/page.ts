import { Refusal } from "./requests.ts";

const DEFAULT_SIZE = 10;
const MAX_SIZE = 100;

export interface Place {
  query: URLSearchParams;
  /** The requested URL, without its query. */
  address: string;
}

/** One page of rows that are already sorted. The cursor is a row's ordinal and survives deletions. */
export function page<Row extends { ordinal: number }, View>(rows: Row[], place: Place, view: (row: Row) => View) {
  const size = pageSize(place.query);
  const [start, end] = bounds(rows, place.query.get("cursor"), size);
  const shown = rows.slice(start, end);
  const link = (side: "after" | "before", row: Row | undefined) => {
    if (!row) return null;
    const query = new URLSearchParams(place.query);
    query.set("cursor", Buffer.from(`${side}:${row.ordinal}`).toString("base64url"));
    return `${place.address}?${query}`;
  };
  return {
    next: end < rows.length ? link("after", shown.at(-1)) : null,
    previous: start > 0 ? link("before", shown[0]) : null,
    results: shown.map(view),
    total: rows.length,
  };
}

function pageSize(query: URLSearchParams): number {
  const given = query.get("pageSize");
  if (given === null) return DEFAULT_SIZE;
  if (!/^[1-9]\d*$/.test(given)) throw new Refusal(400, { pageSize: ["A positive integer is needed."] });
  return Math.min(Number(given), MAX_SIZE);
}

function bounds(rows: { ordinal: number }[], cursor: string | null, size: number): [number, number] {
  if (cursor === null) return [0, Math.min(size, rows.length)];
  const [, side, digits] = /^(after|before):(\d+)$/.exec(Buffer.from(cursor, "base64url").toString()) ?? [];
  if (digits === undefined) throw new Refusal(404, "Invalid cursor.");
  const ordinal = Number(digits);
  const descending = (rows[0]?.ordinal ?? 0) > (rows.at(-1)?.ordinal ?? 0);
  const isPast = (row: { ordinal: number }) => (descending ? row.ordinal < ordinal : row.ordinal > ordinal);
  const firstPast = rows.findIndex(isPast);
  const past = firstPast === -1 ? rows.length : firstPast;
  if (side === "after") return [past, Math.min(past + size, rows.length)];
  // The cursor's row, if it still exists, is the last one before the rows after it.
  const end = rows[past - 1]?.ordinal === ordinal ? past - 1 : past;
  return [Math.max(0, end - size), end];
}

/** Newest first, unless `sort` requests the oldest first. */
export function sortByCreation<Row extends { ordinal: number }>(rows: Row[], query: URLSearchParams): Row[] {
  const sort = query.get("sort") ?? "-created";
  if (sort !== "created" && sort !== "-created") throw new Refusal(400, { sort: [`Cannot sort by ${sort}.`] });
  const sign = sort === "created" ? 1 : -1;
  return rows.toSorted((a, b) => sign * (a.ordinal - b.ordinal));
}
