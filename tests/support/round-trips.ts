import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

/**
 * A TCP proxy to the database that counts round trips. Statements that are sent without waiting for one another share one:
 * it begins when a connection sends after it has received. Connections of `uncounted` applications do not count: no request
 * waits for them.
 */
export async function countingProxy(target: URL, uncounted: readonly string[] = ["patchbay-notifier"]) {
  const sockets = new Set<Socket>();
  let count = 0;
  const server = createServer((near) => {
    const far = connect(Number(target.port), target.hostname);
    let isWaiting = false;
    let counts: boolean | undefined;
    near.on("data", (bytes: Buffer) => {
      counts ??= !uncounted.some((name) => bytes.includes(name)); // the first packet has the name of the application
      if (!isWaiting && counts) count++;
      isWaiting = true;
      far.write(bytes);
    });
    far.on("data", (bytes) => {
      isWaiting = false;
      near.write(bytes);
    });
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(socket);
      socket.setNoDelay(true);
      socket.on("error", () => {});
      socket.on("close", () => {
        sockets.delete(socket);
        other.destroy();
      });
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = new URL(target);
  url.port = String((server.address() as AddressInfo).port);
  return {
    url: url.href,
    /** The smallest number of round trips that `work` needed in ten runs: other work of the application shares the proxy. */
    async leastOf(work: () => Promise<unknown>): Promise<number> {
      const counts: number[] = [];
      for (let run = 0; run < 10; run++) {
        const before = count;
        await work();
        counts.push(count - before);
      }
      return Math.min(...counts);
    },
    close() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}
