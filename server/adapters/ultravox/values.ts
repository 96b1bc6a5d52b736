import { z } from "zod";

const durationPattern = /^-?(?:0|[1-9][0-9]{0,11})(?:\.[0-9]{1,9})?s$/;

/** A protobuf duration: "42s", "5.5s". */
export const Seconds = z
  .string()
  .regex(durationPattern, "is not a duration")
  .transform((text) => Number(text.slice(0, -1)));

export function duration(seconds: number): string {
  return `${Number(seconds.toFixed(3))}s`;
}

/** Parses an ISO 8601 instant. Without an offset it is UTC, which JavaScript would parse as local time. */
export function instant(text: string): Date | null {
  const parts = /^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d(?:\.\d+)?) ?(Z|[+-]\d\d:?\d\d)?$/i.exec(text);
  if (!parts) return null;
  const date = new Date(`${parts[1]}T${parts[2]}${parts[3]?.toUpperCase() ?? "Z"}`);
  return Number.isNaN(date.getTime()) ? null : date;
}

export const Instant = z.string().transform((text, context) => {
  const date = instant(text);
  if (date) return date;
  context.addIssue("is not an instant");
  return z.NEVER;
});
