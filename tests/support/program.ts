/**
 * The arguments of `node` that start one of our programs in a separate process. It is bundled: that starts with a tenth of
 * the work of a thousand modules.
 */
export const program = (entry: string, ...words: string[]): string[] => ["dev/run.mjs", entry, ...words];
