import { sql } from "drizzle-orm";
import type { Tx } from "../../../db/client.ts";
import { eventHorizon } from "../../../db/event-position.ts";
import { isSetApart } from "../../set-apart/service.ts";
import { fanOutLoop } from "./fan-out.ts";

/**
 * For health checks, in seconds: the age of the oldest event whose deliveries are not written, and of the oldest event that
 * followers cannot read yet, because an older transaction of the server is still open.
 */
export async function eventDelays(tx: Tx): Promise<{ fanOut: number; heldBack: number }> {
  const [row] = await tx.execute<{ fan_out: number; held_back: number }>(sql`
    select
      coalesce((select extract(epoch from clock_timestamp() - min(f.created_at)) from event_fan_outs f
        where not ${isSetApart(fanOutLoop, sql`f.event_id`)}), 0)::float8 as fan_out,
      coalesce((select extract(epoch from clock_timestamp() - min(e.created_at)) from events e
        where e.position >= ${eventHorizon}), 0)::float8 as held_back`);
  const seconds = (value: number) => Math.max(0, Math.round(Number(value)));
  return { fanOut: seconds(row!.fan_out), heldBack: seconds(row!.held_back) };
}
