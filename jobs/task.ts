import { sql } from "drizzle-orm";
import type { JobHelpers, Task as WorkerTask } from "graphile-worker";
import type { Logger } from "pino";
import { z } from "zod";
import type { Database, Tx } from "../db/client.ts";
import { newId } from "../db/ids.ts";
import { type JobName, type JobPayload, jobs } from "../db/queue.ts";
import { gaveUpJobs } from "../db/schema/platform.ts";
import type { Providers } from "../routers/providers.ts";
import { Fenced, type Fence } from "./fence.ts";

export type JobContext = {
  jobId: string;
  /** 0 is the first. */
  attempt: number;
  clientId: string | null;
  requestId: string | null;
  log: Logger;
  providers: Providers;
  db: Database;
  /** A transaction of the job's client, fenced at both ends. A job of the house has none. */
  asClient<T>(work: (tx: Tx) => Promise<T>, options?: { mode?: "read" | "write" }): Promise<T>;
  /** A transaction of the house, fenced at both ends. */
  asHouse<T>(work: (tx: Tx) => Promise<T>, options?: { mode?: "read" | "write" }): Promise<T>;
  /** Throws when this pool may have been declared dead: check before every effect that is not a transaction of ours. */
  fence: Pick<Fence, "check">;
  /** Aborts when the pool is fenced, or when a stopping worker waits no longer. */
  signal: AbortSignal;
};

export type Task<N extends JobName> = {
  run(payload: JobPayload<N>, ctx: JobContext): Promise<void>;
  /** The last attempt has failed. It may be called again when the process dies in it. */
  gaveUp?(payload: JobPayload<N>, ctx: JobContext, error: Error): Promise<void>;
};

export type Tasks = { [N in JobName]: Task<N> };
export type TaskDeps = { db: Database; providers: Providers; log: Logger; fence: Fence };
