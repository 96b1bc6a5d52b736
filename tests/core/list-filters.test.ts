import { expect, test } from "vitest";
import { z } from "zod";
import { Metadata } from "../../routers/core/fields.ts";
import { metadataFilter, searchFilter } from "../../routers/core/list-filters.ts";

const Filter = z.strictObject({ ...metadataFilter, ...searchFilter });
const problems = (input: object) => Filter.safeParse(input).error?.issues.map(({ message }) => message) ?? [];
const pairs = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, n) => [`k${n}`, "v"]));

test("every key and value of metadata that can be stored can be filtered by, and no longer one", () => {
  const longest = { ["k".repeat(40)]: "v".repeat(500) };
  expect(Metadata.safeParse(longest).success).toBe(true);
  expect(problems({ metadata: longest })).toEqual([]);
  expect(problems({ metadata: { ["k".repeat(41)]: "v" } })).toEqual(["Use at most 40 characters."]);
  expect(problems({ metadata: { k: "v".repeat(501) } })).toEqual(["Use at most 500 characters."]);
});

test("a filter has at most five pairs, and a search at most 100 characters", () => {
  expect(problems({ metadata: pairs(5), search: "x".repeat(100) })).toEqual([]);
  expect(problems({ metadata: pairs(6) })).toEqual(["Use at most 5 pairs."]);
  expect(problems({ search: "x".repeat(101) })).toEqual(["Use at most 100 characters."]);
  expect(problems({ search: " " })).toEqual(["Use at least 1 character."]);
});
