/** How one client can load a shared installation. */
export const noiseKinds = ["calls", "webhooks", "streams", "bodies", "lists", "unfinished"] as const;
export type NoiseKind = (typeof noiseKinds)[number];
export type Noise = {
  url: string;
  /** All of one client. */
  keys: string[];
  agentId: string;
  kinds: readonly NoiseKind[];
};
/** Response counts of each kind, by status. 0: no response. */
export type Heard = Partial<Record<NoiseKind, Record<number, number>>>;
