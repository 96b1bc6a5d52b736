const maxTermLength = 40;
const maxTermsPerCall = 500;

/** The search terms of a text: lower case, each once, in order of first use. */
export function searchTermsOf(text: string): string[] {
  const found =
    text
      .normalize("NFKC")
      .toLowerCase()
      .normalize("NFKC") // a lower-case letter may be one character where its capital is two
      .match(/[\p{L}\p{M}\p{N}]+/gu) ?? [];
  const terms = found.filter((word) => [...word].length >= 2 && [...word].length <= maxTermLength);
  return [...new Set(terms)];
}

/** The terms that are stored for a conversation: only the first ones, so that a very long one does not fill the table. */
export const searchableTerms = (texts: readonly string[]): string[] =>
  searchTermsOf(texts.join("\n")).slice(0, maxTermsPerCall);
