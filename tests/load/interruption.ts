type Stops = (() => Promise<unknown>)[];

/**
 * Runs the work, then stops everything that it started, in reverse order; also after a failure. An interrupt aborts `over`,
 * which the work must check, and the process exits with 130.
 */
export async function untilOver(work: (stops: Stops, over: AbortSignal) => Promise<void>) {
  const stops: Stops = [];
  const over = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => {
      process.exitCode = 130;
      over.abort(new Error("It was interrupted."));
    });
  }
  try {
    await work(stops, over.signal);
  } catch (error) {
    if (!over.signal.aborted) throw error; // otherwise an effect of the interruption
  } finally {
    await stopAll(stops);
  }
}

export async function stopAll(stops: Stops) {
  for (const stop of stops.splice(0).reverse()) await stop().catch((error: unknown) => console.error(error));
}
