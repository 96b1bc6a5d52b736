import { expect, test } from "vitest";
import { count, countAll, perThousand } from "./language.ts";

const limit = 2;
const counts = countAll();

test.for(Object.keys(counts) as (keyof typeof counts)[])("%s hold fewer than 2 unusual words in 1,000", (kind) => {
  const { findings } = counts[kind];
  const places = findings.slice(0, 40).map(({ at, word }) => `${at} ${word}`);
  expect(perThousand(counts[kind]), places.join("\n")).toBeLessThan(limit);
});

test.for(Object.keys(counts) as (keyof typeof counts)[])("%s use no gendered pronoun", (kind) => {
  expect(counts[kind].gendered).toEqual([]);
});

test("this lint finds a word in a sentence, and none in quoted code", () => {
  // In pieces, so that the lint does not find them in this file.
  const text = ["Nobody is", "told at\n * once.", "`nobody` is", "a value,", "and he", "reads it."].join(" ");
  const found = count([{ file: "a.ts", line: 1, text }]);
  expect(found.findings.map(({ word }) => word.replaceAll(/\s+/g, " "))).toEqual(["nobody", "told", "at * once"]);
  expect(found.gendered.map(({ word }) => word)).toEqual(["he"]);
});
