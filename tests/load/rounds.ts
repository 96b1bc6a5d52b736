/** One measurement: count, duration and processor time (microseconds). */
export type Round = { count: number; seconds: number; cpu: number; postgres: number | null };

/** The median of several rounds. */
export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

/**
 * The best of several rounds, by each figure: other work of the machine can only make a round slower.
 */
export function best(rounds: readonly Round[]) {
  const inPostgres = rounds.flatMap(({ postgres, count }) => (postgres === null ? [] : [postgres / count]));
  return {
    perSecond: Math.max(...rounds.map(({ count, seconds }) => count / seconds)),
    cpu: Math.min(...rounds.map(({ count, cpu }) => cpu / count)),
    postgres: inPostgres.length > 0 ? Math.min(...inPostgres) : null,
  };
}
