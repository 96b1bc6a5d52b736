import { z } from "zod";
import type { SendFailure } from "../ports/webhook-sender.ts";

/** Why an attempt got no answer, or why its answer did not count. */
export const attemptErrors = {
  timeout: "Your answer was not whole within 15 seconds.",
  connection_failed: "No connection, or it broke off.",
  name_not_resolved: "No address is known for the host of the URL.",
  tls_failed: "The certificate of the host was not accepted.",
  address_forbidden: "The URL leads to an address that is not on the open internet.",
  response_malformed: "What came back is not HTTP.",
  request_malformed: "The request could not be made: one of your own headers holds what a header cannot hold.",
  redirect_not_followed: "You answered 3xx.",
} satisfies Record<SendFailure | "redirect_not_followed", string>;

/** The same of a delivery, and what ended it or held it back without an attempt: every `last_error` that is ever written. */
export const deliveryErrors = {
  ...attemptErrors,
  gone: "You answered 410: the endpoint is switched off.",
  endpoint_disabled: "The endpoint was off when it fell due.",
  endpoint_deleted: "The endpoint was deleted.",
  event_expired: "The event was past its age when it fell due.",
  key_unavailable: "We could not sign: nothing was sent, no attempt is used up, and it is tried again within a minute.",
};

/** How `error` reads on the wire. Kept as text: a newer process may write a word that an older one does not know yet. */
const oneOf = (words: Record<string, string>) =>
  z
    .string()
    .meta({ enum: Object.keys(words) })
    .nullable()
    .meta({ description: "Why there was no response, or why it did not count.", examples: [null] });

export const AttemptError = oneOf(attemptErrors);
export const DeliveryError = oneOf(deliveryErrors);

/** An endpoint is disabled automatically at either limit. */
export const disableAfter = { consecutiveFailures: 100, days: 5 } as const;

/** Why an endpoint was disabled. The row stores the code; the message is made from it. */
export const disableReasons = {
  request: "Disabled by request.",
  gone: "The receiver answered 410 Gone.",
  failures: `${disableAfter.consecutiveFailures} consecutive attempts failed.`,
  days: `All attempts of the last ${disableAfter.days} days failed.`,
};
export type DisableCode = keyof typeof disableReasons;
export const disableCodes = Object.keys(disableReasons) as [DisableCode, ...DisableCode[]];
