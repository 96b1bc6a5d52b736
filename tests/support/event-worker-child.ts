import { pino } from "pino";
import { openDatabase } from "../../db/client.ts";
import { openNotifications } from "../../db/notifications.ts";
import { eventsChannel } from "../../db/notifier.ts";
import { busTimer } from "../../jobs/bus.ts";
import { fanOutTimer } from "../../jobs/fan-out.ts";
import { startTimers } from "../../jobs/runtime/timers.ts";
import type { Providers } from "../../routers/ports/index.ts";
import { eventBridge } from "../../server/adapters/event-bus-eventbridge.ts";
import type { Urls } from "./jobs-database.ts";

export type EventWorkerOptions = Urls & { endpoint: string };

/** The bus and the fan-out of a worker, in a process that can be killed. */
const { endpoint, ...urls } = JSON.parse(process.argv[2]!) as EventWorkerOptions;
const db = openDatabase({ ...urls, size: 6 });
const notifications = openNotifications({ url: urls.tenantUrl, channel: eventsChannel });
const bus = eventBridge({ name: "crash", region: "us-east-1", source: "patchbay", endpoint, requestTimeoutMs: 60_000 });
const log = pino({ level: "silent" });
startTimers([busTimer(), fanOutTimer(notifications)], { db, providers: { bus } as unknown as Providers, log });
