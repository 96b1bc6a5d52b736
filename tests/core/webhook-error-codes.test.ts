import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { expect, test } from "vitest";
import { attemptErrors, disableAfter, disableReasons } from "../../routers/core/webhook-error-codes.ts";

const text = readFileSync(resolve(import.meta.dirname, "../../docs/webhooks.md"), "utf8");

test("an endpoint is disabled at the limits that the documents state", () => {
  expect(disableAfter).toEqual({ consecutiveFailures: 100, days: 5 });
  expect(text).toContain("a hundred failed attempts in a row, or five days of failures alone");
  expect(disableReasons).toMatchObject({
    failures: "100 consecutive attempts failed.",
    days: "All attempts of the last 5 days failed.",
  });
});

test("every error of an attempt is in the documents, with the same words", () => {
  for (const [code, meaning] of Object.entries(attemptErrors)) expect(text).toContain(`| \`${code}\` | ${meaning} |`);
});
