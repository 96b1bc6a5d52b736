/** A value of a provider's enum (a reason, a status, an event type) that did not exist when this was written. */
export type UnknownWord = { provider: string; field: string; word: string };

type Listener = (word: UnknownWord) => void;

/** One set for the process, as the schemas that meet such values are module-level too. */
const listeners = new Set<Listener>();
const maxCounted = 100;

export function noteUnknownWord(provider: string, field: string, word: string): void {
  for (const listener of listeners) listener({ provider, field, word: loggable(word) });
}

/** Maps a value of a provider's enum to ours. An unknown value is reported, and `otherwise` is returned. */
export function translated<V>(words: Record<string, V>, word: string, otherwise: V, at: [string, string]): V {
  if (Object.hasOwn(words, word)) return words[word]!;
  noteUnknownWord(...at, word);
  return otherwise;
}

/** Enum values look like this. Any other text could be personal data, which must not be logged. */
const loggable = (word: string) => (/^[\w.:-]{1,64}$/.test(word) ? word : "(not a word)");

/** Counts unknown values, and reports each the first time. */
export function countUnknownWords(report: (word: UnknownWord) => void) {
  const counts = new Map<string, number>();
  const listener: Listener = (word) => {
    const name = `${word.provider} ${word.field}: ${word.word}`;
    const seen = counts.get(name) ?? 0;
    if (seen === 0 && counts.size >= maxCounted) return;
    counts.set(name, seen + 1);
    if (seen === 0) report(word);
  };
  listeners.add(listener);
  return {
    /** How often each occurred since the process started. */
    counts: (): Record<string, number> => Object.fromEntries(counts),
    close: () => void listeners.delete(listener),
  };
}
