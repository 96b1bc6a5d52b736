import type { Kind, Noun } from "./faults.ts";
import { Refusal } from "./requests.ts";
import type { Account, World } from "./world.ts";

export interface Asked {
  world: World;
  account: Account;
  /** The `{id}` of the path. */
  id: string;
  query: URLSearchParams;
  body: unknown;
  origin: string;
  /** The address that was asked, without its query. */
  address: string;
  /** Of whatever the path names; the admin door has no account. */
  hasApiKey: boolean;
}

export interface Reply {
  status: number;
  body?: unknown;
  wav?: Buffer;
  headers?: Record<string, string>;
  /** Real seconds between the work and the answer. */
  delaySeconds?: number;
}

export interface Route {
  method: string;
  template: string;
  /** What a fault must be asked for to strike here; without it none does. */
  kind?: Kind;
  noun: Noun;
  handle: (asked: Asked) => Reply | Promise<Reply>;
}

export function findRoute(routes: readonly Route[], method: string, path: string): { route: Route; id: string } {
  const here = routes.flatMap((route) => {
    const id = matchTemplate(route.template, path);
    return id === undefined ? [] : [{ route, id }];
  });
  const found = here.find(({ route }) => route.method === method);
  if (found) return found;
  throw here.length > 0 ? new Refusal(405, `Method "${method}" not allowed.`) : new Refusal(404, "Not found.");
}

function matchTemplate(template: string, path: string): string | undefined {
  const wanted = template.split("/");
  const given = path.split("/");
  if (wanted.length !== given.length) return undefined;
  let id = "";
  for (const [index, part] of wanted.entries()) {
    const value = given[index] ?? "";
    if (part.startsWith("{")) id = value;
    else if (part !== value) return undefined;
  }
  return id;
}

/** A thing of another account is a thing that does not exist. */
export function own<Thing extends { account: string }>(things: Map<string, Thing>, { id, account }: Asked): Thing {
  const thing = things.get(id);
  if (!thing || thing.account !== account.id) throw new Refusal(404, "Not found.");
  return thing;
}

export const ownedBy = <Thing extends { account: string }>(things: Map<string, Thing>, account: Account): Thing[] =>
  [...things.values()].filter((thing) => thing.account === account.id);
