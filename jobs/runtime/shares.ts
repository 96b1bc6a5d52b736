/** Below so many slots there is nothing to share out. */
const fewestToShare = 4;
const [shortestPauseMs, longestPauseMs] = [50, 1_000];
const [closestMs, farthestMs] = [1, 50];

/** A slot that a client's job holds until it leaves; or after how many seconds the job comes again. */
export type Place = { leave(): void } | { againInSeconds: number };
export type Shares = { enter(clientId: string): Place };

type Held = { jobs: number; averageMs: number; nextAt: number };

/**
 * Shares the slots of one pool among clients: a client may hold at most as many as it leaves free, so that one that has
 * a thousand jobs takes half of the slots, two such take a third each, and the next client finds a free one. What is
 * beyond a share comes again a little later, spaced as fast as the client's own slots come free.
 */
export function openShares(slots: number, now = () => performance.now()): Shares {
  const clients = new Map<string, Held>();
  let taken = 0;

  return {
    enter(clientId) {
      const held = clients.get(clientId) ?? { jobs: 0, averageMs: shortestPauseMs, nextAt: 0 };
      const most = slots < fewestToShare ? slots : Math.max(1, Math.floor((slots - (taken - held.jobs)) / 2));
      if (held.jobs >= most) return { againInSeconds: later(held, most) / 1000 };
      clients.set(clientId, held);
      held.jobs += 1;
      taken += 1;
      return { leave: leaving(clientId, held) };
    },
  };

  function leaving(clientId: string, held: Held) {
    const began = now();
    return () => {
      held.averageMs += (now() - began - held.averageMs) / 8;
      held.jobs -= 1;
      taken -= 1;
      if (held.jobs === 0) clients.delete(clientId);
    };
  }

  function later(held: Held, most: number): number {
    const pauseMs = between(shortestPauseMs, held.averageMs / 2, longestPauseMs);
    held.nextAt = Math.max(now() + pauseMs, held.nextAt + between(closestMs, held.averageMs / most, farthestMs));
    return held.nextAt - now();
  }
}

const between = (least: number, value: number, most: number) => Math.min(most, Math.max(least, value));
