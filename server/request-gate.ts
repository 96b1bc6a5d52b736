import { ApiError } from "../routers/core/errors.ts";
import type { Turn } from "../routers/core/turn.ts";

export type GateLimits = {
  /** Turns of one owner while no other is active. */
  alone: number;
  /**
   * Turns of one owner beside others: each turn delays every next step of the others' requests. `least` while the process
   * is busy, up to `most` while it is not.
   */
  besideOthers: { least: number; most: number };
  /** The process is busy when its event loop worked for more than this part of the last sample. */
  busyAbove: number;
  sampleMs: number;
  /** With the least turns in a busy process, the longest pause of a flood after each turn. */
  maxPauseMs: number;
  /** Waiting requests, of one owner and of all. */
  waitingPerOwner: number;
  waitingInAll: number;
  maxWaitMs: number;
  /** An owner counts as active for this time after its last request. */
  activeMs: number;
};

const gateLimits: GateLimits = {
  ...{ alone: 32, besideOthers: { least: 2, most: 16 }, busyAbove: 0.6, sampleMs: 50, maxPauseMs: 100 },
  ...{ waitingPerOwner: 500, waitingInAll: 5_000 },
  ...{ maxWaitMs: 20_000, activeMs: 1_000 },
};

type Waiter = { grant: (turn: Turn) => void; timer: NodeJS.Timeout };
type Holder = { running: number; waiting: Set<Waiter>; seenAt: number; pausesUntil: number; timer?: NodeJS.Timeout };

/** What is no client has no claim: unverified credentials of one address wait for each other, and limit no client. */
const addressPrefix = "address:";
export const addressOwner = (address: string) => addressPrefix + address;

/**
 * Shares this process between clients. A client that is alone may use all of it. Beside others it has fewer turns the busier
 * the process is, since every running request delays each next step of the others': their number is halved after each busy
 * sample, and grows by one after any other. At the least, a flood also pauses after each turn for as long as that took: large
 * bodies block the event loop even two at a time. Its other requests wait here, before their bodies are read, so that a flood
 * delays its own client only.
 */
export class RequestGate {
  readonly #limits: GateLimits;
  readonly #now: () => number;
  /** The part of the time since its last call for which the event loop worked. */
  readonly #utilization: () => number;
  readonly #holders = new Map<string, Holder>();
  #share: number;
  #isBusy = false;
  #sampledAt: number;
  #clients = 0;
  #waiting = 0;
  #sweptAt = Number.NEGATIVE_INFINITY;

  constructor(limits: Partial<GateLimits> = {}, now = () => performance.now(), utilization = sinceLastCall()) {
    this.#limits = { ...gateLimits, ...limits };
    this.#now = now;
    this.#utilization = utilization;
    this.#share = this.#limits.besideOthers.least;
    this.#sampledAt = now();
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
    const fresh = { running: 0, waiting: new Set<Waiter>(), seenAt: this.#now(), pausesUntil: 0 };
    this.#holders.set(owner, fresh);
    if (!owner.startsWith(addressPrefix)) this.#clients++;
    return fresh;
  }

  #mayStart(owner: string, holder: Holder): boolean {
    if (this.#isAlone(owner)) return holder.running < this.#limits.alone;
    return holder.running < this.#shareNow() && holder.pausesUntil <= this.#now();
  }

  #isAlone = (owner: string) => this.#clients <= 1 && !owner.startsWith(addressPrefix);

  /** The turns of one owner beside others. */
  #shareNow(): number {
    const { besideOthers, busyAbove, sampleMs } = this.#limits;
    const now = this.#now();
    if (now - this.#sampledAt < sampleMs) return this.#share;
    this.#sampledAt = now;
    this.#isBusy = this.#utilization() > busyAbove;
    this.#share = this.#isBusy
      ? Math.max(besideOthers.least, Math.floor(this.#share / 2))
      : Math.min(besideOthers.most, this.#share + 1);
    return this.#share;
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
      this.#pauseAfter(from, from.seenAt - startedAt);
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
    this.#serveAfterPause(owner, holder); // in a pause, no turn may be running that would serve it
    return promise;
  }

  /** Only an owner with more requests than turns pauses: its next request has waited already. */
  #pauseAfter(holder: Holder, turnMs: number) {
    const { besideOthers, maxPauseMs } = this.#limits;
    if (holder.waiting.size === 0 || this.#shareNow() > besideOthers.least || !this.#isBusy) return;
    holder.pausesUntil = this.#now() + Math.min(turnMs, maxPauseMs);
  }

  #serve(owner: string, holder: Holder) {
    for (const waiter of holder.waiting) {
      if (!this.#mayStart(owner, holder)) return this.#serveAfterPause(owner, holder);
      holder.waiting.delete(waiter);
      this.#waiting--;
      clearTimeout(waiter.timer);
      waiter.grant(this.#turnOf(owner, holder));
    }
  }

  /** Without a pause, the end of a turn serves the next. */
  #serveAfterPause(owner: string, holder: Holder) {
    const pauseMs = holder.pausesUntil - this.#now();
    if (pauseMs <= 0 || holder.timer) return;
    holder.timer = setTimeout(() => {
      delete holder.timer;
      this.#sweep();
      this.#serve(owner, holder);
    }, Math.ceil(pauseMs));
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

function sinceLastCall() {
  let last = performance.eventLoopUtilization();
  return () => {
    const now = performance.eventLoopUtilization();
    const { utilization } = performance.eventLoopUtilization(now, last);
    last = now;
    return utilization;
  };
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
