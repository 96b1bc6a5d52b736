import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { openDeps } from "../../server/deps.ts";
import { readEnv } from "../../server/env.ts";
import { openHttp } from "../../server/http.ts";
import { serve } from "./child.ts";

/** The application as shipped, without workers. Its log is discarded, as all output of the children. */
const deps = openDeps(readEnv(process.env));
const server = openHttp(deps);
server.listen(0, "127.0.0.1");
await once(server, "listening");
serve({ port: () => (server.address() as AddressInfo).port }, () => deps.close());
