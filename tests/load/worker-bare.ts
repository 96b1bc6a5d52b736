import { run } from "graphile-worker";
import { serve } from "./child.ts";
import { countdown } from "./countdown.ts";
import { queueSettings } from "./queue-settings.ts";

/** The queue library alone, with the settings of our prompt pool. */
const { begun, once, soFar } = countdown();
const { pgPool, options } = queueSettings();
const runner = await run({ ...options, taskList: { "webhooks.deliver": async () => begun() } });

serve({ once, soFar }, async () => {
  await runner.stop();
  await pgPool.end();
});
