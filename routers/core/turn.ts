import { AsyncLocalStorage } from "node:async_hooks";

/** Permission of a request to use the process and the database. A client has a few at the same time: server/request-gate.ts. */
export type Turn = {
  /** Gives the turn up. Calling it again does nothing. */
  end(): void;
  isHeld(): boolean;
  /** Lets others work while this request waits for another company. Returns the function that takes the turn back. */
  pause(): () => void;
};

const present = new AsyncLocalStorage<Turn>();

/** Runs `work` with a turn, which ends with it. */
export async function withTurn<T>(turn: Turn, work: () => Promise<T>): Promise<T> {
  try {
    return await present.run(turn, work);
  } finally {
    turn.end();
  }
}

/** Waits for another company. The request needs no turn meanwhile: a slow provider must not use up the client's turns. */
export async function outsideTurn<T>(work: () => Promise<T>): Promise<T> {
  const resume = present.getStore()?.pause();
  try {
    return await work();
  } finally {
    resume?.();
  }
}
