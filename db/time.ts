import { sql } from "drizzle-orm";

/** The database's clock. Unlike `now()`, it moves on during a transaction. */
export const dbNow = () => sql<Date>`clock_timestamp()`;

/** That many seconds after the database's present time. */
export const inSeconds = (seconds: number) => sql<Date>`clock_timestamp() + make_interval(secs => ${seconds})`;
