import { ApiError } from "../../routers/core/errors.ts";

type TreeNode<T> = { fixed: Map<string, TreeNode<T>>; any: TreeNode<T> | undefined; place: Place<T> | undefined };

/** One path: its target per method, and the methods for the `Allow` header. */
type Place<T> = { byMethod: Map<string, Target<T>>; allow: string };
type Target<T> = { target: T; params: string[] };

type Found<T> = { place: Place<T>; values: string[] };
type Routes<T> = {
  add(method: string, path: string, target: T): void;
  find(path: string): Found<T> | undefined;
};

/** Paths as a tree of segments: the cost of a lookup depends only on the length of the path. */
export function routes<T>(): Routes<T> {
  const root = treeNode<T>();
  return {
    add(method, path, target) {
      const params: string[] = [];
      let at = root;
      for (const segment of path.slice(1).split("/")) {
        const param = /^\{(\w+)\}$/.exec(segment)?.[1];
        if (!param && /[{}]/.test(segment)) throw new Error(`${path}: a parameter must be a whole segment.`);
        if (param) params.push(param);
        at = param ? paramChild(at) : fixedChild(at, segment);
      }
      at.place ??= { byMethod: new Map(), allow: "" };
      const { byMethod } = at.place;
      if (byMethod.has(method)) throw new Error(`${method} ${path} is used by another procedure.`);
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

const treeNode = <T>(): TreeNode<T> => ({ fixed: new Map(), any: undefined, place: undefined });

function paramChild<T>(at: TreeNode<T>): TreeNode<T> {
  at.any ??= treeNode();
  return at.any;
}

function fixedChild<T>(at: TreeNode<T>, segment: string): TreeNode<T> {
  const next = at.fixed.get(segment) ?? treeNode<T>();
  at.fixed.set(segment, next);
  return next;
}

/** Tries the fixed name first, then the same segment as a parameter. */
function walk<T>(at: TreeNode<T>, segments: string[], depth: number, values: string[]): Place<T> | undefined {
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

/** Decodes one segment, after the split: an encoded slash belongs to the value, not to the path. */
function decoded(segment: string): string {
  if (!segment.includes("%")) return segment;
  try {
    return decodeURIComponent(segment);
  } catch {
    throw new ApiError("input_invalid", "The path has a malformed percent escape. Encode each parameter as UTF-8.");
  }
}
