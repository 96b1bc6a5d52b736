/** How many requests one pool sends at the same time. */
export type SendLimit = {
  /** False: there was no place within the time, or the signal aborted. */
  enter(signal: AbortSignal): Promise<boolean>;
  leave(): void;
};

/** `most` at a time, first come, first served. */
export function openSendLimit(most: number, waitMs: number): SendLimit {
  let sending = 0;
  const waiting = new Set<() => void>();
  return {
    enter(signal) {
      if (signal.aborted) return Promise.resolve(false);
      if (sending < most) {
        sending += 1;
        return Promise.resolve(true);
      }
      return new Promise((resolve) => {
        const settle = (isAllowed: boolean) => {
          clearTimeout(timer);
          signal.removeEventListener("abort", refuse);
          waiting.delete(allow);
          resolve(isAllowed);
        };
        const allow = () => settle(true); // the place is handed over, so the count stays
        const refuse = () => settle(false);
        const timer = setTimeout(refuse, waitMs);
        signal.addEventListener("abort", refuse, { once: true });
        waiting.add(allow);
      });
    },
    leave() {
      const [next] = waiting;
      if (next) next();
      else sending -= 1;
    },
  };
}
