export const fileStatuses = ["pending", "ingesting", "ready", "failed", "deleted"] as const;
export type FileStatus = (typeof fileStatuses)[number];
export type BaseStatus = "provisioning" | "empty" | "ingesting" | "ready" | "failed" | "deleted";

/** Limits of the provider: sources per corpus and documents per source (docs.ultravox.ai, knowledge bases). */
export const maxFiles = 20;
export const maxDocumentsPerSource = 200;

/** The allowed transitions of a file. Pages that are ready may be read again. */
const moves: Record<FileStatus, readonly FileStatus[]> = {
  pending: ["ingesting", "failed", "deleted"],
  ingesting: ["ready", "failed", "deleted"],
  ready: ["ingesting", "deleted"],
  failed: ["pending", "deleted"],
  deleted: [],
};

export const mayMove = (from: FileStatus, to: FileStatus) => moves[from].includes(to);

/** True while the file is being ingested. */
export const isOpen = (status: FileStatus) => status === "pending" || status === "ingesting";

/** The number of files of a base in each status, without deleted ones. */
export type Tally = Record<Exclude<FileStatus, "deleted">, number>;

/** The status of a base follows from its files alone. */
export function statusOf({ pending, ingesting, ready, failed }: Tally): BaseStatus {
  if (pending + ingesting > 0) return "ingesting";
  if (ready > 0) return "ready";
  return failed > 0 ? "failed" : "empty";
}

/** How a round ends: it has failed if some of its files failed and none succeeded. */
export function roundOutcome({ succeeded, failed }: { succeeded: number; failed: number }): "completed" | "failed" {
  return failed > 0 && succeeded === 0 ? "failed" : "completed";
}

/** True if agents can search the base. It stays true while more files are being ingested. */
export function isUsable(base: { status: BaseStatus; providerCorpusId: string | null; readyFiles: number }): boolean {
  const exists = base.status !== "deleted" && base.status !== "provisioning" && base.providerCorpusId !== null;
  return exists && base.readyFiles > 0;
}
