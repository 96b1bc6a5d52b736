import { startUltravox } from "../../dev/simulators/ultravox/index.ts";
import { answer, given } from "./child.ts";

/** The simulated provider in a process of its own: its work is not counted as that of another process, and it answers immediately. */
const simulator = await startUltravox({
  port: 0,
  seed: 1,
  accounts: [{ id: "bench", apiKey: given("PROVIDER_KEY"), webhooks: [] }],
});
answer({ url: () => simulator.url }, () => simulator.close());
