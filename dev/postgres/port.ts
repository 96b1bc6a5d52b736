import { createServer } from "node:net";
import { SetupProblem } from "../simulators/setup-problem.ts";
import { TemporaryProblem } from "./problems.ts";
import { codeOf } from "./system.ts";

const defaultPort = 54320;

export async function choosePort(
  requested: number | undefined,
  last: number | undefined,
  log: (line: string) => void,
): Promise<number> {
  if (requested === 0) return await freePort();
  const wanted = requested ?? last ?? defaultPort;
  const refusal = await refusalOf(wanted);
  if (!refusal) return wanted;
  if (requested === undefined) {
    const port = await freePort();
    log(`Port ${wanted} is taken; Postgres listens on ${port}.`);
    return port;
  }
  const message = `Port ${requested} cannot be used for Postgres (${refusal}). Stop the program that uses it, or choose another port.`;
  throw last === requested ? new TemporaryProblem(message) : new SetupProblem(message);
}

async function refusalOf(port: number): Promise<string | undefined> {
  return await listenOnce(port).then(
    () => undefined,
    (error: unknown) => codeOf(error),
  );
}

async function freePort(): Promise<number> {
  return await listenOnce(0);
}

async function listenOnce(port: number): Promise<number> {
  const server = createServer();
  await new Promise<void>((listening, failed) => {
    server.once("error", failed).listen({ port, host: "127.0.0.1", exclusive: true }, listening);
  });
  const address = server.address();
  await new Promise((closed) => server.close(closed));
  return address !== null && typeof address === "object" ? address.port : port;
}
