/** One version of the price book, as the arithmetic needs it. */
export type Price = {
  id: string;
  callMicrosPerMinute: number;
  telephoneMicrosPerMinute: number;
  roundingSeconds: number;
};

/** Seconds rounded up to the unit that the provider bills. */
export function billable(seconds: number, price: Price): number {
  return Math.ceil(seconds / price.roundingSeconds) * price.roundingSeconds;
}

function cost(seconds: number, microsPerMinute: number, price: Price): number {
  return Math.ceil((billable(seconds, price) * microsPerMinute) / 60);
}

type Longest = { joinTimeoutSeconds: number; maxDurationSeconds: number; telephone: boolean; transfers: boolean };

/**
 * The most that a call can cost: the conversation from dialling to its longest end, and the telephone line for as long,
 * at twice the rate where a bridged transfer may keep a second leg open.
 */
export function holdMicros(
  price: Price,
  { joinTimeoutSeconds, maxDurationSeconds, telephone, transfers }: Longest,
): number {
  const seconds = joinTimeoutSeconds + maxDurationSeconds;
  const line = telephone ? cost(seconds, price.telephoneMicrosPerMinute, price) * (transfers ? 2 : 1) : 0;
  return cost(seconds, price.callMicrosPerMinute, price) + line;
}

/** What a call did cost, by the provider's bill. */
export function billMicros(
  price: Price,
  { billedSeconds, sipBilledSeconds }: { billedSeconds: number; sipBilledSeconds: number },
) {
  return (
    cost(billedSeconds, price.callMicrosPerMinute, price) +
    cost(sipBilledSeconds, price.telephoneMicrosPerMinute, price)
  );
}
