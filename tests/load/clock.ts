/** Milliseconds of the machine's own clock: all its processes read the same, and nobody sets it. */
export const clock = () => Number(process.hrtime.bigint()) / 1_000_000;
