import { agents } from "./agents.ts";
import { artifacts } from "./artifacts.ts";
import { calls } from "./calls.ts";
import { admin, clients } from "./clients.ts";
import { apiKeys, auth, billing, events, internal, webhooks } from "./core.ts";
import { credentials } from "./credentials.ts";
import { ingress } from "./ingress.ts";
import { knowledge } from "./knowledge.ts";
import type { ModuleInputs } from "./resource.ts";
import { telephony } from "./telephony.ts";
import { tools } from "./tools.ts";
import { voices } from "./voices.ts";

/** In the order of creation: a later module may refer to resources of an earlier one. */
export const resources: readonly ModuleInputs[] = [
  agents,
  apiKeys,
  credentials,
  auth,
  calls,
  artifacts,
  clients,
  admin,
  ingress,
  billing,
  events,
  webhooks,
  internal,
  telephony,
  knowledge,
  tools,
  voices,
];
