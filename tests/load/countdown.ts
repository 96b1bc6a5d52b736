/** Counts started jobs. `once(n)` waits for the next n and returns when the first started, by the machine's clock. */
export function countdown() {
  let left = 0;
  let count = 0;
  let firstAt = 0;
  let lastAt = 0;
  let finish = (_firstAt: number) => {};
  return {
    begun() {
      lastAt = performance.timeOrigin + performance.now();
      if (firstAt === 0) firstAt = lastAt;
      count += 1;
      if (--left === 0) finish(firstAt);
    },
    once(wanted: number) {
      left = wanted;
      count = 0;
      firstAt = 0;
      return new Promise<number>((resolve) => {
        finish = resolve;
      });
    },
    soFar: () => ({ count, firstAt, lastAt }),
  };
}
