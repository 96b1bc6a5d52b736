import type { Kind, Noun } from "./faults.ts";
import { Refusal } from "./requests.ts";
import type { Account, World } from "./state.ts";

export interface Asked {
  world: World;
  account: Account;
  /** The `{id}` of the path; the last one where there are several. */
  id: string;
  /** All path parameters, in order. */
  ids: string[];
  query: URLSearchParams;
  /** Parsed JSON. For a multipart form see `form`. */
  body: unknown;
  form?: FormData;
  /** The raw body of any type. */
  raw: Buffer;
  origin: string;
  /** The requested URL, without its query. */
  address: string;
  /** The account of the request. Admin endpoints have none. */
  hasApiKey: boolean;
  /** As the request sent it. */
  contentType: string;
}

export interface Reply {
  status: number;
  body?: unknown;
  wav?: Buffer;
  /** Real milliseconds after half of `wav` until the connection breaks. */
  cutAfterMs?: number;
  headers?: Record<string, string>;
  /** Real seconds between the work and the response. */
  delaySeconds?: number;
}

export interface Route {
  method: string;
  template: string;
  /** The name under which faults can be requested for this endpoint. Absent: no faults. */
  kind?: Kind;
  noun: Noun;
  handle: (asked: Asked) => Reply | Promise<Reply>;
}

export function findRoute(routes: readonly Route[], method: string, path: string): { route: Route; ids: string[] } {
  const here = routes.flatMap((route) => {
    const ids = matchTemplate(route.template, path);
    return ids === undefined ? [] : [{ route, ids }];
  });
  const found = here.find(({ route }) => route.method === method);
  if (found) return found;
  throw here.length > 0 ? new Refusal(405, `Method "${method}" not allowed.`) : new Refusal(404, "Not found.");
}

function matchTemplate(template: string, path: string): string[] | undefined {
  const wanted = template.split("/");
  const given = path.split("/");
  if (wanted.length !== given.length) return undefined;
  const ids: string[] = [];
  for (const [index, part] of wanted.entries()) {
    const value = given[index] ?? "";
    if (part.startsWith("{")) ids.push(value);
    else if (part !== value) return undefined;
  }
  return ids;
}

/** A resource of another account is reported as not found. */
export function own<Thing extends { account: string }>(things: Map<string, Thing>, { id, account }: Asked): Thing {
  const thing = things.get(id);
  if (!thing || thing.account !== account.id) throw new Refusal(404, "Not found.");
  return thing;
}

export const ownedBy = <Thing extends { account: string }>(things: Map<string, Thing>, account: Account): Thing[] =>
  [...things.values()].filter((thing) => thing.account === account.id);
