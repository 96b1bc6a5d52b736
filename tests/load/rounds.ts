/** One measurement: so many in so long, for so much processor time (microseconds). */
export type Round = { count: number; seconds: number; cpu: number; postgres: number | null };

/** The middle of several rounds. */
export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

/**
 * The least disturbed of several rounds, by each figure: what else the machine does can only make it slower and dearer.
 */
export function best(rounds: readonly Round[]) {
  const inPostgres = rounds.flatMap(({ postgres, count }) => (postgres === null ? [] : [postgres / count]));
  return {
    perSecond: Math.max(...rounds.map(({ count, seconds }) => count / seconds)),
    cpu: Math.min(...rounds.map(({ count, cpu }) => cpu / count)),
    postgres: inPostgres.length > 0 ? Math.min(...inPostgres) : null,
  };
}
