import { setTimeout as sleep } from "node:timers/promises";
import { emit } from "../../db/events.ts";
import { openDeps } from "../../server/deps.ts";
import { readEnv } from "../../server/env.ts";
import { serve } from "./child.ts";
import { clock } from "./clock.ts";
import { type CallEvent, callNumbered, newSubject } from "./customers.ts";

export type Drive = { writers: { clientId: string; type: CallEvent }[]; perSecond: number; seconds: number };
export type Driven = {
  /** The writer, the subject, the due time and the time of the confirmed commit, by the machine's clock. */
  committed: { writer: number; subjectId: string; dueAt: number; at: number }[];
  /** Commits that failed, by their message. */
  failed: Record<string, number>;
  seconds: number;
};

const deps = openDeps(readEnv(process.env));

/** Commits events at a constant rate, each in its own transaction, independent of earlier ones. */
async function run({ writers, perSecond, seconds }: Drive): Promise<Driven> {
  const committed: Driven["committed"] = [];
  const failed: Record<string, number> = {};
  const underWay: Promise<void>[] = [];
  const began = clock();
  const count = Math.round(perSecond * seconds);
  const one = async (n: number, dueAt: number) => {
    const writer = n % writers.length;
    const { clientId, type } = writers[writer]!;
    const subjectId = newSubject();
    try {
      await deps.db.asClient({ clientId }, (tx) => emit(tx, type, subjectId, callNumbered(subjectId, n)));
      committed.push({ writer, subjectId, dueAt, at: clock() });
    } catch (error) {
      const why = error instanceof Error ? error.name : String(error);
      failed[why] = (failed[why] ?? 0) + 1;
    }
  };
  for (let n = 0; n < count; n++) {
    const dueAt = began + (n * 1000) / perSecond;
    if (clock() < dueAt) await sleep(dueAt - clock());
    underWay.push(one(n, dueAt));
  }
  await Promise.all(underWay);
  return { committed, failed, seconds: (clock() - began) / 1000 };
}

serve({ run }, () => deps.close());
