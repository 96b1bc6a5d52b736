/** With fewer slots there is nothing to share. */
const minSlotsToShare = 4;
const [minPauseMs, maxPauseMs] = [50, 1_000];
const [minSpacingMs, maxSpacingMs] = [1, 50];

/** A slot that a client's job holds until it leaves, or after how many seconds the job is tried again. */
export type Place = { leave(): void } | { againInSeconds: number };
export type Shares = { enter(clientId: string): Place };

type Held = { jobs: number; averageMs: number; nextAt: number };

/**
 * Shares the slots of one pool among clients. A client may hold at most as many slots as it leaves free: one busy client
 * takes half of the slots, two take a third each, and the next client finds a free one. Jobs beyond a share are tried
 * again a little later, spaced as fast as the client's own slots become free.
 */
export function openShares(slots: number, now = () => performance.now()): Shares {
  const clients = new Map<string, Held>();
  let taken = 0;

  return {
    enter(clientId) {
      const held = clients.get(clientId) ?? { jobs: 0, averageMs: minPauseMs, nextAt: 0 };
      const most = slots < minSlotsToShare ? slots : Math.max(1, Math.floor((slots - (taken - held.jobs)) / 2));
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
    const pauseMs = between(minPauseMs, held.averageMs / 2, maxPauseMs);
    held.nextAt = Math.max(now() + pauseMs, held.nextAt + between(minSpacingMs, held.averageMs / most, maxSpacingMs));
    return held.nextAt - now();
  }
}

const between = (least: number, value: number, most: number) => Math.min(most, Math.max(least, value));
