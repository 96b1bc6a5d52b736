import { account } from "./account.ts";
import { artifacts } from "./artifacts.ts";
import { corpora } from "./corpora.ts";
import { telephony } from "./telephony.ts";
import { tools } from "./tools.ts";
import { voices } from "./voices.ts";
/** One request to the simulator, with the key of the first account. */
export type Send = <Body>(
  method: string,
  path: string,
  body?: unknown,
) => Promise<{ status: number; body: Body; headers: Headers }>;

/** Calls every endpoint of one resource once, so that request and response can be checked against the provider's schema. */
export type CallEndpoints = (ask: Send) => Promise<void>;

export const resources: readonly CallEndpoints[] = [account, voices, telephony, tools, corpora, artifacts];
