import { sql } from "drizzle-orm";

export const dbNow = () => sql<Date>`clock_timestamp()`;
export const inSeconds = (seconds: number) => sql<Date>`clock_timestamp() + make_interval(secs => ${seconds})`;
