import { sourceFiles, textOf } from "./sources.ts";

const shortest = 7;

type Line = { text: string; number: number };

/** Lines with content: no imports, no lone brackets, no comments. */
function linesOf(file: string): Line[] {
  // Imports are blanked, so that line numbers stay.
  return textOf(file)
    .replace(/^import [^;]*;$/gm, (statement) => statement.replace(/[^\n]/g, ""))
    .split("\n")
    .map((text, index) => ({ text: text.trim(), number: index + 1 }))
    .filter(({ text }) => /[A-Za-z]/.test(text) && !/^(import|export \* from|\/\/|\/?\*)/.test(text));
}

/** Runs of more than six equal lines that occur twice, each once, as `a.ts:10 = b.ts:20 (9 lines)`. */
export function duplicates(files: readonly string[] = sourceFiles): string[] {
  const seen = new Map<string, { file: string; index: number }>();
  const lines = new Map(files.map((file) => [file, linesOf(file)]));
  const found: string[] = [];
  for (const [file, own] of lines) {
    for (let index = 0; index + shortest <= own.length; index++) {
      const key = own
        .slice(index, index + shortest)
        .map(({ text }) => text)
        .join("\n");
      const earlier = seen.get(key);
      if (!earlier) {
        seen.set(key, { file, index });
        continue;
      }
      const other = lines.get(earlier.file)!;
      let length = shortest;
      while (own[index + length] && own[index + length]?.text === other[earlier.index + length]?.text) length++;
      found.push(`${earlier.file}:${other[earlier.index]!.number} = ${file}:${own[index]!.number} (${length} lines)`);
      index += length - 1;
    }
  }
  return found;
}
