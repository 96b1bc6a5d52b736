/** One version of the price book, as the arithmetic needs it. */
export type Price = {
  id: string;
  callMicrosPerMinute: number;
  telephoneMicrosPerMinute: number;
  roundingSeconds: number;
  voiceCloneMicros: number;
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

/** One line of what a call did cost. */
export type CostLine = {
  kind: "conversation" | "telephone";
  /** As billed: rounded up. */
  seconds: number;
  microsPerMinute: number;
  amountMicros: number;
  priceId: string;
};

type Bill = { billedSeconds: number; sipBilledSeconds: number };

/** What a call did cost, by the provider's bill: a line for each thing that was used. */
export function costLines(price: Price, { billedSeconds, sipBilledSeconds }: Bill): CostLine[] {
  const used = [
    { kind: "conversation", seconds: billedSeconds, microsPerMinute: price.callMicrosPerMinute },
    { kind: "telephone", seconds: sipBilledSeconds, microsPerMinute: price.telephoneMicrosPerMinute },
  ] as const;
  return used
    .filter(({ seconds }) => seconds > 0)
    .map(({ kind, seconds, microsPerMinute }) => ({
      kind,
      seconds: billable(seconds, price),
      microsPerMinute,
      amountMicros: cost(seconds, microsPerMinute, price),
      priceId: price.id,
    }));
}

/** The sum of those lines. */
export function billMicros(price: Price, bill: Bill): number {
  return costLines(price, bill).reduce((sum, { amountMicros }) => sum + amountMicros, 0);
}
