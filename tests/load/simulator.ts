import { startUltravox } from "../../dev/simulators/ultravox/index.ts";
import { given, serve } from "./child.ts";

/** The simulated provider in a separate process, so that its work is not counted elsewhere. It responds immediately. */
const simulator = await startUltravox({
  port: 0,
  seed: 1,
  accounts: [{ id: "bench", apiKey: given("PROVIDER_KEY"), webhooks: [] }],
});
serve({ url: () => simulator.url }, () => simulator.close());
