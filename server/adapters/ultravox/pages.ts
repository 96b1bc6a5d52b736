import { z } from "zod";
import { storable } from "../../../db/text.ts";
import { ProviderError } from "../../../routers/ports/provider-error.ts";
import { noteUnknownWord } from "../shared/unknown-words.ts";
import type { UltravoxList, UltravoxRequest } from "./http-client.ts";

const pageSize = 100;
const maxPages = 200;

const Page = z.looseObject({ results: z.array(z.unknown()), next: z.string().nullish() });

/** Reads every page of a list. Throws ProviderError if the list does not end. */
export async function listPages<T extends z.ZodType>(
  list: UltravoxList<T>,
  baseUrl: string,
  request: <R>(page: UltravoxRequest<R>) => Promise<R>,
): Promise<z.output<T>[]> {
  const items: z.output<T>[] = [];
  const seen = new Set<string>();
  let cursor: string | null = null;
  for (let page = 1; page <= maxPages; page += 1) {
    const query: Record<string, string> = { ...list.query, pageSize: `${pageSize}`, ...(cursor && { cursor }) };
    const found = await request({
      method: "GET",
      repeat: "safe",
      path: list.path,
      query,
      read: (bytes) => {
        const { results, next } = Page.parse(storable(JSON.parse(bytes.toString("utf8"))));
        return { next, items: results.flatMap((row, index) => readRow(list, row, index)) };
      },
    });
    items.push(...found.items);
    if (!found.next) return items;
    cursor = cursorIn(found.next, baseUrl);
    if (cursor === null || seen.has(cursor)) break;
    seen.add(cursor);
  }
  throw new ProviderError("unavailable", `Ultravox's list ${list.path} does not end`);
}

function readRow<T extends z.ZodType>({ path, item, about }: UltravoxList<T>, row: unknown, index: number) {
  const read = item.safeParse(row);
  if (read.success) return [read.data];
  const text = JSON.stringify(row);
  const counts = about?.some((wanted) => text.includes(JSON.stringify(wanted).slice(1, -1))) ?? true;
  if (counts)
    throw new z.ZodError(read.error.issues.map((issue) => ({ ...issue, path: ["results", index, ...issue.path] })));
  noteUnknownWord("Ultravox", `row of ${path.split("/").slice(0, 3).join("/")}`, "unreadable");
  return [];
}

/** Only the cursor of `next` is used: its host is the provider's claim, and our key is sent only to our own base URL. */
function cursorIn(next: string, baseUrl: string): string | null {
  return URL.canParse(next, baseUrl) ? new URL(next, baseUrl).searchParams.get("cursor") : null;
}
