import type { z } from "zod";
import type { ErrorDetail } from "./error-details.ts";
import { closestAlternative, noSuchField } from "./validation-messages.ts";

type Path = readonly PropertyKey[];

/** The problems of a parsed value, one per field. `above`: the path of the value in its request. */
export function validationDetails(issues: readonly z.core.$ZodIssue[], above: Path = []): ErrorDetail[] {
  const mistyped = new Set(issues.filter(({ code }) => code === "invalid_type").map(({ path }) => path.join(".")));
  return issues.flatMap((issue) => {
    const path = [...above, ...issue.path];
    // The validator also measures a value of the wrong type: a string for an array is "too long".
    if (issue.code !== "invalid_type" && mistyped.has(issue.path.join("."))) return [];
    if (issue.code === "unrecognized_keys")
      return issue.keys.map((key) => ({ path: [...path, key].join("."), message: noSuchField }));
    // Without this, the message of the field within an alternative is lost.
    const closest = issue.code === "invalid_union" ? closestAlternative(issue.errors) : undefined;
    if (closest) return validationDetails(closest, path);
    return [{ path: path.join("."), message: issue.message }];
  });
}
