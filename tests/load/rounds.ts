/** One measurement: so many in so long, for so much processor time (microseconds). */
export type Round = { count: number; seconds: number; cpu: number; postgres: number | null };

/** The middle of several rounds: on a machine that does other things too, one round says little and a mean says less. */
export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

export function summed(rounds: readonly Round[]) {
  const inPostgres = rounds.flatMap(({ postgres, count }) => (postgres === null ? [] : [postgres / count]));
  return {
    perSecond: median(rounds.map(({ count, seconds }) => count / seconds)),
    cpu: median(rounds.map(({ count, cpu }) => cpu / count)),
    postgres: inPostgres.length > 0 ? median(inPostgres) : null,
  };
}
