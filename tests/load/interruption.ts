type Stops = (() => Promise<unknown>)[];

/**
 * Does the work, and then stops whatever it has started, last started first; also when it fails, and when somebody has
 * had enough: `over` aborts then, the work is to end at its next look, and the process exits with 130.
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
    if (!over.signal.aborted) throw error; // else it is what the interruption broke
  } finally {
    await stopAll(stops);
  }
}

export async function stopAll(stops: Stops) {
  for (const stop of stops.splice(0).reverse()) await stop().catch((error: unknown) => console.error(error));
}
