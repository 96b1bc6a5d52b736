import { z } from "zod";
import { eventTypes } from "../../db/events.ts";

/** Whether a list such as `["call.*", "agent.created"]` matches this type. `*` matches all; `call.*` all that begin with `call.`. */
export function matchesAny(patterns: readonly string[], type: string): boolean {
  return patterns.some((pattern) => {
    if (pattern === "*" || pattern === type) return true;
    return pattern.endsWith(".*") && type.startsWith(pattern.slice(0, -1));
  });
}

/** Whether a pattern matches any type at all: if not, it is a typing error. */
export const canMatch = (pattern: string, types: readonly string[]) =>
  types.some((type) => matchesAny([pattern], type));

/** A list of event types and patterns. Each must match a type that exists. */
export const EventPatterns = z
  .array(z.string().max(100))
  .min(1)
  .max(100)
  .superRefine((patterns, check) => {
    for (const [index, pattern] of patterns.entries()) {
      if (canMatch(pattern, eventTypes)) continue;
      const message = "There is no such event type. GET /webhooks/event-types lists them.";
      check.addIssue({ code: "custom", path: [index], message });
    }
  });
