import { idFloor, newId } from "../../db/ids.ts";
import type { TestApp } from "./app.ts";

type Owner = TestApp["owner"];
type EndpointRow = {
  url?: string;
  status?: "enabled" | "disabled";
  code?: string | null;
  disabledHoursAgo?: number | null;
  failures?: number;
  ratePerSecond?: number | null;
};

/** An endpoint row whose secret is never opened. */
export async function addEndpoint(owner: Owner, clientId: string, given: EndpointRow = {}): Promise<string> {
  const id = newId("endpoint");
  const { url = "https://hooks.example.com/in?token=swordfish", status = "enabled", failures = 0 } = given;
  await owner`
    insert into webhook_endpoints (client_id, id, url, event_types, status, disabled_code, disabled_at, secret,
      consecutive_failures, failing_since, rate_per_second)
    values (${clientId}, ${id}, ${url}, array['*'], ${status}, ${given.code ?? null},
      now() - make_interval(hours => ${given.disabledHoursAgo ?? null}::int), '\\x00',
      ${failures}, case when ${failures}::int > 0 then now() - interval '1 hour' end, ${given.ratePerSecond ?? null})`;
  return id;
}

export type DeliveryRow = {
  count?: number;
  status?: "pending" | "delivered" | "dead";
  /** Seconds since it was due; negative: in the future. */
  dueSecondsAgo?: number;
  inFlight?: boolean;
  finishedMinutesAgo?: number;
};

/** The given number of equal deliveries to one endpoint. */
export async function addDeliveries(owner: Owner, clientId: string, endpointId: string, given: DeliveryRow) {
  const { count = 1, status = "pending", dueSecondsAgo = 0, inFlight = false, finishedMinutesAgo = 0 } = given;
  const stem = newId("delivery").slice(0, -6);
  await owner`
    insert into deliveries (client_id, id, endpoint_id, event_id, event_type, event_created_at, status, next_attempt_at,
      admitted_until, finished_at)
    select ${clientId}, ${stem} || lpad(n::text, 6, '0'), ${endpointId}, ${stem} || n, 'call.ended', now(), ${status},
      case when ${status} = 'pending' then now() - make_interval(secs => ${dueSecondsAgo}::float8) end,
      case when ${inFlight} then now() + interval '1 minute' end,
      case when ${status} <> 'pending' then now() - make_interval(mins => ${finishedMinutesAgo}::int) end
    from generate_series(1, ${count}::int) n`;
}

/** Attempts that started this long ago. */
export async function addAttempts(
  owner: Owner,
  clientId: string,
  endpointId: string,
  given: { count?: number; minutesAgo: number; status: number | null },
) {
  const { count = 1, minutesAgo, status } = given;
  const at = new Date(Date.now() - minutesAgo * 60_000);
  const stem = idFloor("attempt", at).slice(0, 14) + newId("attempt").slice(-10);
  await owner`
    insert into delivery_attempts (client_id, id, delivery_id, endpoint_id, attempt, status, latency_ms, created_at)
    select ${clientId}, ${stem} || lpad(n::text, 6, '0'), 'dlv_' || n, ${endpointId}, 1, ${status}, 5, ${at}
    from generate_series(1, ${count}::int) n`;
}
