import { createServer, type Server } from "node:net";
import { SetupProblem } from "./simulators/setup-problem.ts";

/** The preferred port, or any free one. */
export async function freePort(preferred: number): Promise<number> {
  const port = (await tryPort(preferred)) ?? (await tryPort(0));
  if (port === null) throw new SetupProblem("No free port was found on 127.0.0.1.");
  return port;
}

async function tryPort(port: number): Promise<number | null> {
  const server: Server = createServer();
  return new Promise((done) => {
    server.once("error", () => done(null));
    server.listen(port, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => done(typeof address === "object" && address ? address.port : null));
    });
  });
}
