import { setTimeout as sleep } from "node:timers/promises";
import { type TrackedEnvelope, tracked } from "@trpc/server";
import { and, sql } from "drizzle-orm";
import type { Tx } from "../../db/client.ts";
import { eventHorizon } from "../../db/event-position.ts";
import { events } from "../../db/schema/events.ts";
import { toApiError } from "../core/errors.ts";
import type { Follower } from "../core/event-followers.ts";
import { readCursor } from "../core/pagination.ts";
import { Cut } from "../core/stream.ts";
import type { Event, FollowEvents } from "./schema.ts";
import {
  currentPosition,
  type EventRow,
  eventEnvelope,
  filterCondition,
  inCommitOrder,
  isBehind,
  later,
  type Position,
  positionOf,
  writePosition,
} from "./service.ts";

/** Timings of an event stream. */
export const followTimings = {
  /** The longest wait without a notification. */
  pollEveryMs: 10_000,
  /** The shortest time between two reads, since notifications come in bursts. */
  minIntervalMs: 100,
  /** The wait while committed events are above the horizon, held back by an older transaction: at first, and at most. */
  aboveHorizonMs: { first: 100, max: 1_000 },
  /** How often the reader's permission is checked again. */
  checkEveryMs: 10_000,
  /** The wait when the database is unavailable or overloaded. */
  unavailableMs: 1_000,
};

/** An event with its position. The first item of a new stream is null with the start position. */
export type Followed = TrackedEnvelope<Event | null>;

type Batch = {
  rows: (EventRow & { position: number })[];
  position: Position;
  isFull: boolean;
  isAboveHorizon: boolean;
};

const pageSize = 100;

/**
 * Streams the events of a client in commit order, without gaps: in the order of their positions, and only below the
 * horizon. Each item has the position after it, from which a new stream can continue. The reader
 * pulls: a slow reader holds one page in memory and no transaction.
 */
export async function* followEvents(follower: Follower, input: FollowEvents): AsyncGenerator<Followed, void, void> {
  const given = positionOf(readCursor(follower.key, input.lastEventId ?? input.after));
  const place = follower.enter();
  const signal = AbortSignal.any([follower.signal, place.signal]);
  const read = <T>(work: (tx: Tx) => Promise<T>) => place.look(() => follower.page(work));
  try {
    let position = given ?? (await read(currentPosition));
    if (!given) yield tracked(writePosition(follower.key, position), null);
    let checkedAt = performance.now();
    let aboveHorizonMs = followTimings.aboveHorizonMs.first;
    for (;;) {
      const readAt = performance.now();
      if (readAt - checkedAt > followTimings.checkEveryMs) {
        await unlessUnavailable(follower.check());
        checkedAt = readAt;
      }
      const from = position;
      const batch = await unlessUnavailable(read((tx) => eventsAfter(tx, from, input)));
      for (const row of batch?.rows ?? []) {
        throwIfAborted(signal);
        yield tracked(writePosition(follower.key, row), eventEnvelope(row));
      }
      throwIfAborted(signal);
      position = batch?.position ?? position;
      if (batch?.isFull) continue;
      aboveHorizonMs = batch?.isAboveHorizon ? aboveHorizonMs : followTimings.aboveHorizonMs.first;
      await place.wait(
        batch ? (batch.isAboveHorizon ? aboveHorizonMs : followTimings.pollEveryMs) : followTimings.unavailableMs,
        signal,
      );
      if (batch?.isAboveHorizon) aboveHorizonMs = Math.min(aboveHorizonMs * 2, followTimings.aboveHorizonMs.max);
      await pause(followTimings.minIntervalMs - (performance.now() - readAt), signal);
      throwIfAborted(signal);
    }
  } catch (error) {
    // Keeps the error code: a client that gets `internal_error` for a revoked key would reconnect again and again.
    throw error instanceof Cut ? error : toApiError(error);
  } finally {
    place.leave();
  }
}

function throwIfAborted(signal: AbortSignal) {
  if (signal.aborted) throw new Cut("The stream was aborted.");
}

async function pause(ms: number, signal: AbortSignal) {
  if (ms > 0) await sleep(ms, undefined, { signal }).catch(() => {});
}

/** A database that is briefly unavailable does not end the stream: the next read tries again. */
async function unlessUnavailable<T>(read: Promise<T>): Promise<T | undefined> {
  try {
    return await read;
  } catch (error) {
    if (toApiError(error).errorCode === "server_overloaded") return undefined;
    throw error;
  }
}

/**
 * Below the horizon, no more events can appear. The position after a page that is not full is the horizon taken before the
 * read, so the next read skips the events that the filter left out.
 */
async function eventsAfter(tx: Tx, after: Position, filter: FollowEvents): Promise<Batch> {
  const [present, found] = await Promise.all([
    currentPosition(tx),
    tx
      .select({ event: events, isSettled: sql<boolean>`${events.position} < ${eventHorizon}` })
      .from(events)
      .where(and(isBehind(after), filterCondition(filter)))
      .orderBy(...inCommitOrder)
      .limit(pageSize),
  ]);
  const rows = found.filter(({ isSettled }) => isSettled).map(({ event }) => event);
  const last = rows.at(-1);
  const isFull = rows.length === pageSize;
  const reached = last ? { position: last.position, sequence: last.sequence, id: last.id } : after;
  return {
    rows,
    position: isFull ? reached : later(reached, present),
    isFull,
    isAboveHorizon: found.length > rows.length,
  };
}
