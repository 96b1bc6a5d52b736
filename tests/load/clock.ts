/** Milliseconds of the machine's monotonic clock: the same in all processes, and never adjusted. */
export const clock = () => Number(process.hrtime.bigint()) / 1_000_000;
