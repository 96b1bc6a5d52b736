/** Counts jobs as they begin. `once(n)` tells when, by the clock on the wall, the first of the next n began. */
export function countdown() {
  let left = 0;
  let firstAt = 0;
  let finish = (_firstAt: number) => {};
  return {
    begun() {
      if (firstAt === 0) firstAt = performance.timeOrigin + performance.now();
      if (--left === 0) finish(firstAt);
    },
    once(count: number) {
      left = count;
      firstAt = 0;
      return new Promise<number>((resolve) => {
        finish = resolve;
      });
    },
  };
}
