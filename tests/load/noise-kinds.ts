/** What one client may do to an installation that others share. */
export const noiseKinds = ["calls", "webhooks", "streams", "bodies", "lists", "unfinished"] as const;
export type NoiseKind = (typeof noiseKinds)[number];
export type Noise = {
  url: string;
  /** All of one client. */
  keys: string[];
  agentId: string;
  kinds: readonly NoiseKind[];
};
/** How often each kind was answered, by status. 0: there was no answer. */
export type Heard = Partial<Record<NoiseKind, Record<number, number>>>;
