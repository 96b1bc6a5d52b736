import type { Kind, Resource } from "./faults.ts";
import { Refusal } from "./requests.ts";
import type { Account, World } from "./state.ts";

export interface SimulatorRequest {
  world: World;
  /** The account of the API key. Admin endpoints have none. */
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
  resource: Resource;
  handle: (request: SimulatorRequest) => Reply | Promise<Reply>;
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
  const actual = path.split("/");
  if (wanted.length !== actual.length) return undefined;
  const ids: string[] = [];
  for (const [index, part] of wanted.entries()) {
    const value = actual[index] ?? "";
    if (part.startsWith("{")) ids.push(value);
    else if (part !== value) return undefined;
  }
  return ids;
}

/** A resource of another account is reported as not found. */
export function own<R extends { account: string }>(resources: Map<string, R>, { id, account }: SimulatorRequest): R {
  const found = resources.get(id);
  if (!found || found.account !== account.id) throw new Refusal(404, "Not found.");
  return found;
}

export const ownedBy = <R extends { account: string }>(resources: Map<string, R>, account: Account): R[] =>
  [...resources.values()].filter((resource) => resource.account === account.id);
