import type { Notifications } from "../db/notifications.ts";
import { fanOutTopic } from "../db/notifier.ts";
import {
  type EventRef,
  fanOutLoop,
  fanOutTaken,
  takeEvents,
  waitingEvents,
} from "../routers/webhooks/deliveries/fan-out.ts";
import { causeKindOf, eachOrApart, type SystemWork } from "./runtime/set-apart.ts";
import type { Timer, TimerContext } from "./runtime/timers.ts";

/** A run ends after this, so that its success is recorded. The next run continues. */
const budgetMs = 20_000;
/** The longest wait without a notification. */
const pollEveryMs = 1_000;

/**
 * Writes the deliveries of new events, in every worker. Events wait in rows and not in jobs: a job for each would cost more
 * than its work, and its NOTIFY would make all writers wait for each other.
 */
export function fanOutTimer({ watch }: Pick<Notifications, "watch">): Timer {
  return {
    name: fanOutLoop,
    everyMs: pollEveryMs,
    deadlineMs: 2 * budgetMs,
    async run(ctx) {
      const waiting = watch(fanOutTopic);
      const until = performance.now() + budgetMs;
      try {
        while (performance.now() < until && !ctx.signal.aborted) {
          await fanOutAll(ctx);
          await waiting.next(pollEveryMs, ctx.signal);
        }
      } finally {
        waiting.close();
      }
    },
  };
}

/** Fans out until no event waits, except for those that another worker has taken. */
export async function fanOutAll({ db, log, signal }: Pick<TimerContext, "db" | "log" | "signal">): Promise<void> {
  const ctx: SystemWork = { asSystem: (work, options) => db.asSystem(work, options), log, signal };
  let count: number;
  do {
    count = 0;
    let after = "";
    do {
      const round = await fanOutSome(ctx, after);
      count += round.count;
      after = round.next;
    } while (after !== "" && !signal.aborted);
  } while (count > 0 && !signal.aborted);
}

type Round = { count: number; next: string };

/** One round: some events of some clients. */
async function fanOutSome(ctx: SystemWork, after: string): Promise<Round> {
  try {
    const { events, next, gone } = await ctx.asSystem(async (tx) => {
      const waiting = await waitingEvents(tx, after, { isTaken: true });
      return { ...waiting, gone: await fanOutTaken(tx, waiting.events) };
    });
    warnOfGone(ctx, gone);
    return { count: events.length, next };
  } catch (error) {
    if (causeKindOf(error) === "ours") throw error;
    return await fanOutOrSetApart(ctx, after);
  }
}

/** After a failed round: again in halves, until the event that fails is alone. */
async function fanOutOrSetApart(ctx: SystemWork, after: string): Promise<Round> {
  const { events, next } = await ctx.asSystem((tx) => waitingEvents(tx, after, { isTaken: false }), { mode: "read" });
  let count = 0;
  await eachOrApart(ctx, {
    loop: fanOutLoop,
    rows: events,
    subjectOf: ({ eventId, clientId }) => ({ id: eventId, clientId }),
    work: async (some) => {
      const { taken, gone } = await ctx.asSystem(async (tx) => {
        const taken = await takeEvents(tx, some);
        return { taken, gone: await fanOutTaken(tx, taken) };
      });
      warnOfGone(ctx, gone);
      count += taken.length;
    },
  });
  return { count, next };
}

function warnOfGone({ log }: SystemWork, gone: readonly EventRef[]) {
  for (const { clientId, eventId } of gone)
    log.warn({ client_id: clientId, event_id: eventId }, "event older than its retention; not delivered");
}
