import { expect, test } from "vitest";
import { duplicates } from "./duplicates.ts";
import { functionsOf, sourceFiles, textOf } from "./sources.ts";

test("no file is over 350 lines", () => {
  const long = sourceFiles.filter((file) => textOf(file).split("\n").length > 350);
  expect(long).toEqual([]);
});

test("no function is over 80 lines", () => {
  const long = sourceFiles.flatMap(functionsOf).filter(({ lines }) => lines > 80);
  expect(long.map(({ file, line, lines }) => `${file}:${line} ${lines} lines`)).toEqual([]);
});

test("no run of more than six equal lines occurs twice", () => {
  expect(duplicates()).toEqual([]);
});
