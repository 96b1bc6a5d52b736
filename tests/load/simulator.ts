import { startUltravox } from "../../server/dev/ultravox.ts";
import { answer, given } from "./child.ts";

/** The simulated provider in a process of its own: what it works is on no other's account, and answers at once. */
const simulator = await startUltravox({
  port: 0,
  seed: 1,
  accounts: [{ id: "bench", apiKey: given("PROVIDER_KEY"), webhooks: [] }],
});
answer({ url: () => simulator.url }, () => simulator.close());
