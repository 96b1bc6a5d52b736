import type { SeededClient } from "../../../dev/seed.ts";
import type { TestApp } from "../../support/app.ts";
import { type ModuleInputs, page } from "./resource.ts";

let numbers = 1000;
const number = () => `+49301234${++numbers}`;

const registration = () => ({
  username: `reception${++numbers}`,
  password: "sip-password",
  proxy: "sip.example.com",
  outboundProxy: "edge.example.com",
  authUser: "reception",
});

async function makeRegistration(h: TestApp, { key }: SeededClient): Promise<string> {
  return (await h.post("/telephony/registrations", registration(), { key })).body.data.id;
}

async function makeRoute(h: TestApp, { key }: SeededClient, agentId: string): Promise<string> {
  return (await h.post("/telephony/routes", { pattern: number(), agentId }, { key })).body.data.id;
}

export const telephony: ModuleInputs = {
  async createResources({ h, who }) {
    // A separate agent: an agent with an inbound route must not require variables.
    const body = { name: "Line", systemPrompt: "Be brief." };
    const lineAgent = (await h.post("/agents", body, { key: who.key })).body.data.id as string;
    return { registration: await makeRegistration(h, who), route: await makeRoute(h, who, lineAgent), lineAgent };
  },
  elsewhere: { "telephony.update": ["allowedCidrRanges", "carriers"] }, // a client can set these only with its own provider account
  inputs: {
    "telephony.config": () => ({}),
    "telephony.update": () => ({ defaultCarrier: "sip", defaultFrom: "+493012345678" }),
    "telephony.registrations.create": registration,
    "telephony.registrations.list": () => page,
    "telephony.registrations.get": ({ own }) => ({ id: own.registration }),
    "telephony.registrations.remove": async ({ h, who }) => ({ id: await makeRegistration(h, who) }),
    "telephony.routes.create": ({ own }) => ({
      pattern: number(),
      agentId: own.lineAgent,
      rank: 1,
      enabled: true,
      description: "Main line",
    }),
    "telephony.routes.list": ({ own }) => ({ ...page, agentId: own.lineAgent }),
    "telephony.routes.get": ({ own }) => ({ id: own.route }),
    "telephony.routes.update": ({ own }) => ({
      id: own.route,
      pattern: number(),
      agentId: own.lineAgent,
      rank: 2,
      enabled: true,
      description: "Main line",
    }),
    "telephony.routes.remove": async ({ h, who, own }) => ({ id: await makeRoute(h, who, own.lineAgent!) }),
  },
};
