import { setTimeout as sleep } from "node:timers/promises";
import { type TrackedEnvelope, tracked } from "@trpc/server";
import { and, asc, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { events } from "../../db/schema/events.ts";
import { toApiError } from "../core/errors.ts";
import type { Follower } from "../core/event-followers.ts";
import { readCursor } from "../core/pagination.ts";
import { Cut } from "../core/stream.ts";
import type { Event, FollowEvents } from "./schema.ts";
import {
  chosenBy,
  currentPosition,
  type EventRow,
  eventEnvelope,
  horizon,
  isBehind,
  later,
  type Position,
  positionOf,
  writePosition,
} from "./service.ts";

/** How a stream of events keeps its time. */
export const followTimings = {
  /** Without a notice it looks all the same. */
  lookEveryMs: 10_000,
  /** Notices come in crowds: so often at most. */
  betweenMs: 100,
  /** While something committed waits for a transaction that began before it: at first, and at most. */
  aboveMs: { first: 100, most: 1_000 },
  /** Whether he who follows still may. */
  checkEveryMs: 10_000,
  /** The database is away, or has too much to do. */
  troubledMs: 1_000,
};

/** An event, or at the very beginning null: the position from which the stream begins. */
export type Followed = TrackedEnvelope<Event | null>;

type Seen = { rows: (EventRow & { txid: string })[]; position: Position; isFull: boolean; isAbove: boolean };

const atOnce = 100;

/**
 * The events of a client as they are committed, skipping none: read by the transactions that wrote, and only below the
 * oldest that is still running. Each carries the position behind it, from which another stream goes on. It is pulled: a
 * reader who takes his time holds one page in memory, and no transaction.
 */
export async function* followEvents(follower: Follower, input: FollowEvents): AsyncGenerator<Followed, void, void> {
  const given = positionOf(readCursor(follower.key, input.lastEventId ?? input.after));
  const place = follower.enter();
  const signal = AbortSignal.any([follower.signal, place.signal]);
  const look = <T>(work: (tx: Tx) => Promise<T>) => place.look(() => follower.page(work));
  try {
    let position = given ?? (await look(currentPosition));
    if (!given) yield tracked(writePosition(follower.key, position), null);
    let checkedAt = performance.now();
    let aboveMs = followTimings.aboveMs.first;
    for (;;) {
      const lookedAt = performance.now();
      if (lookedAt - checkedAt > followTimings.checkEveryMs) {
        await unlessTroubled(follower.check());
        checkedAt = lookedAt;
      }
      const from = position;
      const seen = await unlessTroubled(look((tx) => eventsAfter(tx, from, input)));
      for (const row of seen?.rows ?? []) {
        goOnUnless(signal);
        yield tracked(writePosition(follower.key, row), eventEnvelope(row));
      }
      goOnUnless(signal);
      position = seen?.position ?? position;
      if (seen?.isFull) continue;
      aboveMs = seen?.isAbove ? aboveMs : followTimings.aboveMs.first;
      await place.wait(seen ? (seen.isAbove ? aboveMs : followTimings.lookEveryMs) : followTimings.troubledMs, signal);
      if (seen?.isAbove) aboveMs = Math.min(aboveMs * 2, followTimings.aboveMs.most);
      await pause(followTimings.betweenMs - (performance.now() - lookedAt), signal);
      goOnUnless(signal);
    }
  } catch (error) {
    // By its own code, or the client would take a key that was revoked for a fault of ours, and come again and again.
    throw error instanceof Cut ? error : toApiError(error);
  } finally {
    place.leave();
  }
}

function goOnUnless(signal: AbortSignal) {
  if (signal.aborted) throw new Cut("The stream was cut off.");
}

async function pause(ms: number, signal: AbortSignal) {
  if (ms > 0) await sleep(ms, undefined, { signal }).catch(() => {});
}

/** A database that is away for a moment ends no stream: it looks again. */
async function unlessTroubled<T>(look: Promise<T>): Promise<T | undefined> {
  try {
    return await look;
  } catch (error) {
    if (toApiError(error).errorCode === "server_overloaded") return undefined;
    throw error;
  }
}

/**
 * What lies below the horizon is all that there is and ever will be there. The position behind a page that is not full is
 * a horizon taken before it was read: so the next look does not go over what the filter has left out.
 */
async function eventsAfter(tx: Tx, after: Position, filter: FollowEvents): Promise<Seen> {
  const [present, found] = await Promise.all([
    currentPosition(tx),
    tx
      .select({ event: events, isSettled: sql<boolean>`${events.txid} < ${horizon}` })
      .from(events)
      .where(and(isBehind(after), chosenBy(filter)))
      .orderBy(asc(events.txid), asc(events.id))
      .limit(atOnce),
  ]);
  const rows = found.filter(({ isSettled }) => isSettled).map(({ event }) => event);
  const last = rows.at(-1);
  const isFull = rows.length === atOnce;
  const reached = last ? { txid: last.txid, id: last.id } : after;
  return {
    rows,
    position: isFull ? reached : later(reached, present),
    isFull,
    isAbove: found.length > rows.length,
  };
}
