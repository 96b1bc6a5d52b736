/** Works through the items, at most `limit` at a time. Fails with the first error, once the work under way has ended. */
export async function inParallel<I>(limit: number, items: readonly I[], work: (item: I) => Promise<void>) {
  const waiting = items.values();
  const worker = async () => {
    for (const item of waiting) await work(item);
  };
  const ended = await Promise.allSettled(Array.from({ length: Math.min(limit, items.length) }, worker));
  const failed = ended.find((each) => each.status === "rejected");
  if (failed) throw failed.reason;
}
