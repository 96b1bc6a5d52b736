export const fileStatuses = ["pending", "ingesting", "ready", "failed", "deleted"] as const;
export type FileState = (typeof fileStatuses)[number];
export type BaseState = "provisioning" | "empty" | "ingesting" | "ready" | "failed" | "deleted";

/** What the provider allows: sources of a corpus, and documents of a source (docs.ultravox.ai, knowledge bases). */
export const maxFiles = 20;
export const maxDocumentsPerSource = 200;

/** Where a file may go from where it is. A set of pages that is ready may be read again. */
const moves: Record<FileState, readonly FileState[]> = {
  pending: ["ingesting", "failed", "deleted"],
  ingesting: ["ready", "failed", "deleted"],
  ready: ["ingesting", "deleted"],
  failed: ["pending", "deleted"],
  deleted: [],
};

export const mayMove = (from: FileState, to: FileState) => moves[from].includes(to);

/** It is still being read in. */
export const isOpen = (status: FileState) => status === "pending" || status === "ingesting";

/** How many files of a base are in each status; those that are deleted do not count. */
export type Tally = Record<Exclude<FileState, "deleted">, number>;

/** What a base is follows from its files alone. */
export function stateOf({ pending, ingesting, ready, failed }: Tally): BaseState {
  if (pending + ingesting > 0) return "ingesting";
  if (ready > 0) return "ready";
  return failed > 0 ? "failed" : "empty";
}

/** How a round ends, by its own files: it has failed when some of them failed, and none came through. */
export function endOf({ succeeded, failed }: { succeeded: number; failed: number }): "completed" | "failed" {
  return failed > 0 && succeeded === 0 ? "failed" : "completed";
}

/** Can agents ask it? Also while more is being read in: what is there already is found. */
export function isUsable(base: { status: BaseState; providerCorpusId: string | null; readyFiles: number }): boolean {
  const isThere = base.status !== "deleted" && base.status !== "provisioning" && base.providerCorpusId !== null;
  return isThere && base.readyFiles > 0;
}
