const longest = 40;
const mostPerCall = 500;

/** The words of a text as a search knows them, each once, in the order of their first use. */
export function wordsOf(text: string): string[] {
  const found =
    text
      .normalize("NFKC")
      .toLowerCase()
      .normalize("NFKC") // a small letter may be one character where the capital is two
      .match(/[\p{L}\p{M}\p{N}]+/gu) ?? [];
  const fitting = found.filter((word) => [...word].length >= 2 && [...word].length <= longest);
  return [...new Set(fitting)];
}

/** What is kept of a conversation: its first words are searchable, and a very long one does not fill the table alone. */
export const searchableTerms = (texts: readonly string[]): string[] => wordsOf(texts.join("\n")).slice(0, mostPerCall);
