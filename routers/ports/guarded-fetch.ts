import type { AddressRules } from "./addresses.ts";
import type { Deadline } from "./provider-error.ts";

/** What was sent to an address that a client chose, and what came back; bodies cut to their first bytes. */
export type FetchAnswer = {
  status: number;
  headers: Record<string, string>;
  body: string;
  truncated: boolean;
  milliseconds: number;
};

/**
 * The one way to an address that a client chose. Only the open internet is reached: every address that the name has is
 * looked at, and the connection goes to what was looked at. Follows no redirect, knows no proxy.
 */
export interface GuardedFetch {
  /** By which an address is looked at when it is kept; it is looked at again whenever it is used. */
  rules: AddressRules;
  /** Throws SendFailed. */
  fetch(
    request: { method: string; url: string; headers: Record<string, string>; body?: string; maxBytes?: number },
    deadline: Deadline,
  ): Promise<FetchAnswer>;
}
