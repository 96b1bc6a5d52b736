/** A word of a provider's list (a reason, a status, a kind of event) that was not in it when this was written. */
export type UnknownWord = { provider: string; field: string; word: string };

type Listener = (word: UnknownWord) => void;

/** One for the process, as the schemas that meet such words are: whoever keeps count of them listens. */
const listeners = new Set<Listener>();
const mostKept = 100;

export function noteUnknownWord(provider: string, field: string, word: string): void {
  for (const listener of listeners) listener({ provider, field, word: shown(word) });
}

/** Looks a word up in a list. One that is not in it is noted, and `otherwise` holds: nothing stops for it. */
export function translated<V>(words: Record<string, V>, word: string, otherwise: V, at: [string, string]): V {
  if (Object.hasOwn(words, word)) return words[word]!;
  noteUnknownWord(...at, word);
  return otherwise;
}

/** Words of a list look like this. Anything else could be somebody's data, and no log may have it. */
const shown = (word: string) => (/^[\w.:-]{1,64}$/.test(word) ? word : "(not a word)");

/** Counts the words, and tells of each the first time it comes. */
export function countUnknownWords(tell: (word: UnknownWord) => void) {
  const counts = new Map<string, number>();
  const listener: Listener = (word) => {
    const name = `${word.provider} ${word.field}: ${word.word}`;
    const seen = counts.get(name) ?? 0;
    if (seen === 0 && counts.size >= mostKept) return;
    counts.set(name, seen + 1);
    if (seen === 0) tell(word);
  };
  listeners.add(listener);
  return {
    /** How often each was met since the process began. */
    counts: (): Record<string, number> => Object.fromEntries(counts),
    close: () => void listeners.delete(listener),
  };
}
