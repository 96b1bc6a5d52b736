import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { commentsOf, messagesOf, root, sourceFiles, type Text, testFiles, textOf } from "./sources.ts";

export const wordList = readFileSync(join(root, "tests/architecture/unusual-words.txt"), "utf8")
  .split("\n")
  .filter((line) => line !== "" && !line.startsWith("#"));

const pattern = (words: readonly string[]) =>
  new RegExp(
    `(?<![\\w-])(?:${words.map((word) => word.replaceAll(" ", "\\s+(?:\\*\\s*|//\\s*)?")).join("|")})(?![\\w-])`,
    "gi",
  );

const unusual = pattern(wordList);
const gendered = pattern(["he", "him", "his", "himself", "she", "her", "hers", "herself"]);

/** Quoted code is not prose. */
const prose = (text: string) =>
  text
    .replace(/```[\s\S]*?```/g, " ")
    .replace(/`[^`]*`/g, " ")
    .replace(/https?:\/\/\S+/g, " ");

export type Finding = { at: string; word: string };
export type Count = { words: number; findings: Finding[]; gendered: Finding[] };

export function count(texts: readonly Text[]): Count {
  const result: Count = { words: 0, findings: [], gendered: [] };
  for (const { file, line, text } of texts) {
    const plain = prose(text);
    result.words += plain.match(/[A-Za-z][A-Za-z'-]*/g)?.length ?? 0;
    const found = (wanted: RegExp) =>
      [...plain.matchAll(wanted)].map(([word]) => ({ at: `${file}:${line}`, word: word.toLowerCase() }));
    result.findings.push(...found(unusual));
    result.gendered.push(...found(gendered));
  }
  return result;
}

export const perThousand = ({ words, findings }: Count) => (words === 0 ? 0 : (findings.length / words) * 1000);

const documentFiles = globSync(
  "{*.md,docs/**/*.md,{server,edge,routers,jobs,db,dev,tests}/**/README.md,.env.example}",
  { cwd: root },
).sort();

const linesOf = (file: string): Text[] =>
  prose(textOf(file).replace(/```[\s\S]*?```/g, (block) => block.replace(/[^\n]/g, " ")))
    .split("\n")
    .map((text, index) => ({ file, line: index + 1, text }));

/** Counts comments (SQL too), documents, and every sentence in the code, test names included. */
export function countAll(): Record<"comments" | "documents" | "messages", Count> {
  const code = [...sourceFiles, ...testFiles];
  const sql = globSync("db/*.sql", { cwd: root }).flatMap((file) =>
    textOf(file)
      .split("\n")
      .flatMap((text, index) =>
        text.includes("--") ? [{ file, line: index + 1, text: text.slice(text.indexOf("--")) }] : [],
      ),
  );
  return {
    comments: count([...code.flatMap(commentsOf), ...sql]),
    documents: count(documentFiles.flatMap(linesOf)),
    messages: count(code.flatMap(messagesOf)),
  };
}
