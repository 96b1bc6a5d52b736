import { duplicates } from "./duplicates.ts";
import { type Count, countAll, perThousand } from "./language.ts";
import { folderCycles } from "./layout.ts";
import { functionsOf, sourceFiles, textOf } from "./sources.ts";

/** `npm run check:figures` prints figures about the readability of the code. `-- --list` lists each place. */
const isListed = process.argv.includes("--list");
const longFile = 350;
const longFunction = 80;

const language = countAll();
const files = sourceFiles
  .map((file) => ({ file, lines: textOf(file).split("\n").length }))
  .filter(({ lines }) => lines > longFile);
const functions = sourceFiles.flatMap(functionsOf).filter(({ lines }) => lines > longFunction);
const cycles = folderCycles();
const copies = duplicates();

const rate = (count: Count) => `${perThousand(count).toFixed(1)} (${count.findings.length} in ${count.words})`;
const rows: [string, string][] = [
  ["unusual words per 1,000, comments", rate(language.comments)],
  ["unusual words per 1,000, documents", rate(language.documents)],
  ["unusual words per 1,000, messages", rate(language.messages)],
  [`files over ${longFile} lines`, String(files.length)],
  [`functions over ${longFunction} lines`, String(functions.length)],
  ["cycles between folders", String(cycles.length)],
  ["runs of more than six equal lines", String(copies.length)],
];
for (const [name, value] of rows) console.log(`${name.padEnd(40)}${value}`);
if (isListed) {
  for (const { findings, gendered } of Object.values(language))
    for (const { at, word } of [...gendered, ...findings]) console.log(`${at}  ${word}`);
  for (const { file, lines } of files) console.log(`${file}  ${lines} lines`);
  for (const { file, line, lines } of functions) console.log(`${file}:${line}  a function of ${lines} lines`);
  for (const place of [...cycles, ...copies]) console.log(place);
}
