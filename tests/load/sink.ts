import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { serve } from "./child.ts";
import { framesOf } from "./http-frames.ts";

/** Accepts everything, responds immediately, and counts. */
let posts = 0;
let firstAt = 0;
const accepted = Buffer.from("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");

const server = createServer((socket) => {
  socket.setNoDelay(true);
  const read = framesOf(() => {
    if (posts++ === 0) firstAt = performance.timeOrigin + performance.now();
    socket.write(accepted);
  });
  socket.on("data", read).on("error", () => {});
});
server.listen(0, "127.0.0.1");
await once(server, "listening");

serve({
  port: () => (server.address() as AddressInfo).port,
  seen: () => ({ posts, firstAt }),
  forget: () => {
    posts = 0;
    firstAt = 0;
  },
});
