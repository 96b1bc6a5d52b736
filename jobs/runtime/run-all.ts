/**
 * Runs `work` for each item, and for each item that `work` returns, all concurrently. Resolves when nothing is left. A failure
 * does not stop the others; the first one is thrown at the end.
 */
export function runAll<T>(first: readonly T[], work: (item: T) => Promise<readonly T[]>): Promise<void> {
  return new Promise((resolve, reject) => {
    const failures: unknown[] = [];
    let open = 0;
    const start = (items: readonly T[]) => {
      open += items.length;
      for (const item of items) work(item).then(start, fail).then(finish);
    };
    const fail = (error: unknown) => void failures.push(error);
    const finish = () => {
      open -= 1;
      if (open > 0) return;
      if (failures.length > 0) reject(failures[0]);
      else resolve();
    };
    if (first.length === 0) resolve();
    start(first);
  });
}
