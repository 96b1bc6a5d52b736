import { z } from "zod";
import { storable } from "../../../db/text.ts";
import { ProviderError } from "../../../routers/ports/provider-error.ts";
import type { UltravoxList, UltravoxRequest } from "./http-client.ts";

const pageSize = 100;
const maxPages = 200;

const Page = <T extends z.ZodType>(item: T) => z.looseObject({ results: z.array(item), next: z.string().nullish() });

/** Reads every page of a list. Throws ProviderError if the list does not end. */
export async function listPages<T extends z.ZodType>(
  list: UltravoxList<T>,
  baseUrl: string,
  request: <R>(page: UltravoxRequest<R>) => Promise<R>,
): Promise<z.output<T>[]> {
  const schema = Page(list.item);
  const items: z.output<T>[] = [];
  const seen = new Set<string>();
  let cursor: string | null = null;
  for (let page = 1; page <= maxPages; page += 1) {
    const query: Record<string, string> = { ...list.query, pageSize: `${pageSize}`, ...(cursor && { cursor }) };
    const found: z.output<typeof schema> = await request({
      method: "GET",
      repeat: "safe",
      path: list.path,
      query,
      read: (bytes) => schema.parse(storable(JSON.parse(bytes.toString("utf8")))),
    });
    items.push(...found.results);
    if (!found.next) return items;
    cursor = cursorIn(found.next, baseUrl);
    if (cursor === null || seen.has(cursor)) break;
    seen.add(cursor);
  }
  throw new ProviderError("unavailable", `Ultravox's list ${list.path} does not end`);
}

/** Only the cursor of `next` is used: its host is the provider's claim, and our key is sent only to our own base URL. */
function cursorIn(next: string, baseUrl: string): string | null {
  return URL.canParse(next, baseUrl) ? new URL(next, baseUrl).searchParams.get("cursor") : null;
}
