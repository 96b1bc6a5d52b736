import { ApiError } from "../routers/core/errors.ts";
import type { Turn } from "../routers/core/turn.ts";

export type GateLimits = {
  /** Turns of one owner while no other is active. */
  alone: number;
  /** Turns of one owner beside others. Each turn delays every next step of the others' requests. */
  besideOthers: number;
  /** Beside others: the time of turns per second that an owner may use for long, and for a burst. */
  turnMsPerSecond: number;
  burstMs: number;
  /** Waiting requests, of one owner and of all. */
  waitingPerOwner: number;
  waitingInAll: number;
  maxWaitMs: number;
  /** An owner counts as active for this time after its last request. */
  activeMs: number;
};

const gateLimits: GateLimits = {
  ...{ alone: 32, besideOthers: 2, turnMsPerSecond: 750, burstMs: 200 },
  ...{ waitingPerOwner: 500, waitingInAll: 5_000 },
  ...{ maxWaitMs: 20_000, activeMs: 1_000 },
};

type Waiter = { grant: (turn: Turn) => void; timer: NodeJS.Timeout };
type Holder = {
  running: number;
  waiting: Set<Waiter>;
  seenAt: number;
  /** Time of turns that is left, as of `countedAt`. Below zero, the owner waits beside others. */
  leftMs: number;
  countedAt: number;
  timer?: NodeJS.Timeout;
};

/** What is no client has no claim: unverified credentials of one address wait for each other, and limit no client. */
const addressPrefix = "address:";
export const addressOwner = (address: string) => addressPrefix + address;

/**
 * Shares this process between clients. A client that is alone may use all of it. Beside others it has few turns, and after a
 * burst their time is limited, since every running request delays each next step of the others'. Its other requests wait here,
 * before their bodies are read: a flood delays its own client.
 */
export class RequestGate {
  readonly #limits: GateLimits;
  readonly #now: () => number;
  readonly #holders = new Map<string, Holder>();
  #clients = 0;
  #waiting = 0;
  #sweptAt = Number.NEGATIVE_INFINITY;

  constructor(limits: Partial<GateLimits> = {}, now = () => performance.now()) {
    this.#limits = { ...gateLimits, ...limits };
    this.#now = now;
  }

  /** `gone`: the caller has left, and no longer waits. Throws ApiError `rate_limit_exceeded` or `server_overloaded`. */
  enter(owner: string, gone?: AbortSignal): Turn | Promise<Turn> {
    this.#sweep();
    const holder = this.#holderOf(owner);
    holder.seenAt = this.#now();
    if (holder.waiting.size === 0 && this.#mayStart(owner, holder)) return this.#turnOf(owner, holder);
    this.#refuseBeyondBounds(holder);
    return this.#wait(owner, holder, gone);
  }

  #holderOf(owner: string): Holder {
    const known = this.#holders.get(owner);
    if (known) return known;
    const now = this.#now();
    const fresh = { running: 0, waiting: new Set<Waiter>(), seenAt: now, leftMs: this.#limits.burstMs, countedAt: now };
    this.#holders.set(owner, fresh);
    if (!owner.startsWith(addressPrefix)) this.#clients++;
    return fresh;
  }

  #mayStart(owner: string, holder: Holder): boolean {
    const { alone, besideOthers } = this.#limits;
    if (this.#isAlone(owner)) return holder.running < alone;
    return holder.running < besideOthers && this.#leftMs(holder) > 0;
  }

  #isAlone = (owner: string) => this.#clients <= 1 && !owner.startsWith(addressPrefix);

  #leftMs(holder: Holder): number {
    const now = this.#now();
    const { turnMsPerSecond, burstMs } = this.#limits;
    const earned = ((now - holder.countedAt) * turnMsPerSecond) / 1000;
    holder.leftMs = Math.min(burstMs, holder.leftMs + earned);
    holder.countedAt = now;
    return holder.leftMs;
  }

  #spend(holder: Holder, ms: number) {
    holder.leftMs = Math.max(-this.#limits.burstMs, this.#leftMs(holder) - ms);
  }

  #turnOf(owner: string, holder: Holder): Turn {
    let held: Holder | undefined = holder;
    holder.running++;
    let startedAt = this.#now();
    const release = () => {
      if (!held) return false;
      const from = held;
      held = undefined;
      from.running--;
      from.seenAt = this.#now();
      this.#spend(from, from.seenAt - startedAt);
      this.#sweep();
      this.#serve(owner, from);
      return true;
    };
    const resume = () => {
      held = this.#holderOf(owner); // without waiting: what the provider has done must be recorded
      held.running++;
      startedAt = this.#now();
    };
    return {
      end: () => void release(),
      isHeld: () => held !== undefined,
      pause: () => (release() ? once(resume) : () => {}),
    };
  }

  #refuseBeyondBounds({ waiting }: Holder) {
    const { waitingPerOwner, waitingInAll } = this.#limits;
    if (waiting.size >= waitingPerOwner) throw tooMany(`${waitingPerOwner} of your requests are waiting.`);
    if (this.#waiting >= waitingInAll) throw new ApiError("server_overloaded", undefined, { retryAfterSeconds: 1 });
  }

  #wait(owner: string, holder: Holder, gone: AbortSignal | undefined): Promise<Turn> {
    const { promise, resolve, reject } = Promise.withResolvers<Turn>();
    const leave = (error: unknown) => {
      if (!holder.waiting.delete(waiter)) return;
      this.#waiting--;
      clearTimeout(timer);
      reject(error);
    };
    const { maxWaitMs } = this.#limits;
    const timer = setTimeout(() => leave(tooMany(`This request waited ${maxWaitMs / 1000} s.`)), maxWaitMs);
    const waiter: Waiter = { grant: resolve, timer };
    gone?.addEventListener("abort", () => leave(gone.reason), { once: true });
    holder.waiting.add(waiter);
    this.#waiting++;
    this.#serveLater(owner, holder);
    return promise;
  }

  #serve(owner: string, holder: Holder) {
    for (const waiter of holder.waiting) {
      if (!this.#mayStart(owner, holder)) return this.#serveLater(owner, holder);
      holder.waiting.delete(waiter);
      this.#waiting--;
      clearTimeout(waiter.timer);
      waiter.grant(this.#turnOf(owner, holder));
    }
  }

  /** For an owner whose time is used up. Otherwise the end of a turn serves the next. */
  #serveLater(owner: string, holder: Holder) {
    if (holder.timer || holder.running >= this.#limits.besideOthers) return;
    const waitMs = Math.ceil((1 - this.#leftMs(holder)) * (1000 / this.#limits.turnMsPerSecond));
    holder.timer = setTimeout(
      () => {
        delete holder.timer;
        this.#sweep();
        this.#serve(owner, holder);
      },
      Math.max(1, waitMs),
    );
  }

  /** Forgets owners that are no longer active. */
  #sweep() {
    const now = this.#now();
    const { activeMs } = this.#limits;
    if (now - this.#sweptAt < activeMs / 4) return;
    this.#sweptAt = now;
    for (const [owner, { running, waiting, seenAt }] of this.#holders) {
      if (running > 0 || waiting.size > 0 || now - seenAt < activeMs) continue;
      this.#holders.delete(owner);
      if (!owner.startsWith(addressPrefix)) this.#clients--;
    }
  }
}

function once(work: () => void): () => void {
  let isDone = false;
  return () => {
    if (!isDone) work();
    isDone = true;
  };
}

const tooMany = (problem: string) =>
  new ApiError("rate_limit_exceeded", `Too many concurrent requests: ${problem} Send fewer at the same time.`, {
    retryAfterSeconds: 1,
  });
