type Deadline = {
  signal: AbortSignal;
  /** Must be called when the work is over: no timer and no listener is left behind. */
  done(): void;
};

/** What is under way beneath each signal: it is listened to once, however much that is. */
const beneath = new WeakMap<AbortSignal, Set<AbortController>>();

/** Aborts after so long, or with the other signal. For work that is done thousands of times a second. */
export function deadline(parent: AbortSignal, ms: number): Deadline {
  const controller = new AbortController();
  const open = openBeneath(parent);
  open.add(controller);
  if (parent.aborted) controller.abort(parent.reason);
  const timer = setTimeout(() => controller.abort(new Error("The deadline has passed.")), ms);
  return {
    signal: controller.signal,
    done() {
      clearTimeout(timer);
      open.delete(controller);
    },
  };
}

function openBeneath(parent: AbortSignal): Set<AbortController> {
  const known = beneath.get(parent);
  if (known) return known;
  const open = new Set<AbortController>();
  beneath.set(parent, open);
  parent.addEventListener("abort", () => {
    for (const controller of open) controller.abort(parent.reason);
  });
  return open;
}
