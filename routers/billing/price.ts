/** The fields of a price that the calculation uses. */
export type Price = {
  id: string;
  callMicrosPerMinute: number;
  telephoneMicrosPerMinute: number;
  roundingSeconds: number;
  voiceCloneMicros: number;
};

/** Rounds seconds up to the billing unit of the provider. */
export function billable(seconds: number, price: Price): number {
  return Math.ceil(seconds / price.roundingSeconds) * price.roundingSeconds;
}

function cost(seconds: number, microsPerMinute: number, price: Price): number {
  return Math.ceil((billable(seconds, price) * microsPerMinute) / 60);
}

type Limits = { joinTimeoutSeconds: number; maxDurationSeconds: number; telephone: boolean; transfers: boolean };

/**
 * The highest possible cost of a call: the conversation from dialling to its latest end, plus the telephone line for the same
 * time, at twice the rate if a bridged transfer may keep a second leg open.
 */
export function holdMicros(
  price: Price,
  { joinTimeoutSeconds, maxDurationSeconds, telephone, transfers }: Limits,
): number {
  const seconds = joinTimeoutSeconds + maxDurationSeconds;
  const line = telephone ? cost(seconds, price.telephoneMicrosPerMinute, price) * (transfers ? 2 : 1) : 0;
  return cost(seconds, price.callMicrosPerMinute, price) + line;
}

/** One line of the cost of a call. */
export type CostLine = {
  kind: "conversation" | "telephone";
  /** Rounded up, as billed. */
  seconds: number;
  microsPerMinute: number;
  amountMicros: number;
  priceId: string;
};

type Bill = { billedSeconds: number; sipBilledSeconds: number };

/** The cost of a call by the provider's bill, one line per service used. */
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

/** The sum of the cost lines. */
export function billMicros(price: Price, bill: Bill): number {
  return costLines(price, bill).reduce((sum, { amountMicros }) => sum + amountMicros, 0);
}
