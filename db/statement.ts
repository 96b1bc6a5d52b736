import type { Sql } from "postgres";
import type { Tx } from "./transaction.ts";

/**
 * A constant text, whose values are $1, $2 and so on. It is sent before the call returns, so it can go with a commit. Rows
 * are as the driver returns them: instants and 64-bit numbers are text.
 */
export function statement<Row extends object = Record<string, never>>(text: string) {
  return async (tx: Tx, values: readonly unknown[]): Promise<Row[]> => {
    const { session } = tx as unknown as { session: { client: Sql } };
    return (await session.client.unsafe(text, values as never[])) as unknown as Row[];
  };
}
