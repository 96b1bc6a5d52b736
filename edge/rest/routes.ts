import { ApiError } from "../../routers/core/errors.ts";

type Junction<T> = { fixed: Map<string, Junction<T>>; any: Junction<T> | undefined; place: Place<T> | undefined };

/** One path: what stands behind each of its methods, and the methods as an `Allow` header names them. */
type Place<T> = { byMethod: Map<string, Stop<T>>; allow: string };
type Stop<T> = { target: T; params: string[] };

type Found<T> = { place: Place<T>; values: string[] };
type Routes<T> = {
  add(method: string, path: string, target: T): void;
  find(path: string): Found<T> | undefined;
};

/** Paths as a tree of segments: a look-up costs the path's own length, however many routes there are. */
export function routes<T>(): Routes<T> {
  const root = junction<T>();
  return {
    add(method, path, target) {
      const params: string[] = [];
      let at = root;
      for (const segment of path.slice(1).split("/")) {
        const param = /^\{(\w+)\}$/.exec(segment)?.[1];
        if (!param && /[{}]/.test(segment)) throw new Error(`${path}: a parameter is a whole segment.`);
        if (param) params.push(param);
        at = param ? anyWay(at) : fixedWay(at, segment);
      }
      at.place ??= { byMethod: new Map(), allow: "" };
      const { byMethod } = at.place;
      if (byMethod.has(method)) throw new Error(`${method} ${path} is taken by another procedure.`);
      byMethod.set(method, { target, params });
      if (method === "GET") byMethod.set("HEAD", { target, params });
      at.place.allow = [...byMethod.keys(), "OPTIONS"].join(", ");
    },
    find(path) {
      const whole = path.length > 1 && path.endsWith("/") ? path.slice(1, -1) : path.slice(1);
      const segments = whole.split("/").map(decoded);
      const values: string[] = [];
      const place = walk(root, segments, 0, values);
      return place && { place, values };
    },
  };
}

const junction = <T>(): Junction<T> => ({ fixed: new Map(), any: undefined, place: undefined });

function anyWay<T>(at: Junction<T>): Junction<T> {
  at.any ??= junction();
  return at.any;
}

function fixedWay<T>(at: Junction<T>, segment: string): Junction<T> {
  const next = at.fixed.get(segment) ?? junction<T>();
  at.fixed.set(segment, next);
  return next;
}

/** The fixed name first; where it leads nowhere, the same segment is tried as a parameter. */
function walk<T>(at: Junction<T>, segments: string[], depth: number, values: string[]): Place<T> | undefined {
  const segment = segments[depth];
  if (segment === undefined) return at.place;
  const named = at.fixed.get(segment);
  const found = named && walk(named, segments, depth + 1, values);
  if (found || !at.any || segment === "") return found;
  values.push(segment);
  const place = walk(at.any, segments, depth + 1, values);
  if (!place) values.pop();
  return place;
}

/** Percent-decodes one segment, after the split: an encoded slash belongs to the value, not to the path. */
function decoded(segment: string): string {
  if (!segment.includes("%")) return segment;
  try {
    return decodeURIComponent(segment);
  } catch {
    throw new ApiError("input_invalid", "The path holds a malformed percent escape. Encode each parameter as UTF-8.");
  }
}
