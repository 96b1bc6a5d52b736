import type { AddressRules } from "./addresses.ts";
import type { Deadline } from "./provider-error.ts";

/** The response of a URL that a client chose. The body is cut to its first bytes. */
export type FetchAnswer = {
  status: number;
  headers: Record<string, string>;
  body: string;
  truncated: boolean;
  milliseconds: number;
};

/**
 * The only way to request a client's URL. It reaches the public internet only: every address of the name is checked, and the
 * connection uses a checked address. It follows no redirects and uses no proxy.
 */
export interface GuardedFetch {
  /** The rules to check a URL when it is stored. It is checked again whenever it is used. */
  rules: AddressRules;
  /** Throws SendFailed. */
  fetch(
    request: { method: string; url: string; headers: Record<string, string>; body?: string; maxBytes?: number },
    deadline: Deadline,
  ): Promise<FetchAnswer>;
}
