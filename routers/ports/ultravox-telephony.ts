import type { Deadline } from "./provider-error.ts";

export type ProviderSip = {
  domain: string | null;
  allowedCidrRanges: string[];
  allowAllAgents: boolean;
  allowedAgents: { providerAgentId: string; toUserPattern: string | null }[];
};
export type ProviderRegistration = {
  providerRegistrationId: string;
  createdAt: Date;
  username: string;
  proxy: string;
  /** null until the provider has tried to register. */
  registered: boolean | null;
};
/** The account's settings for a carrier. The provider returns only the beginning of its secret. */
export type ProviderCarrier = {
  carrier: "twilio" | "telnyx" | "plivo";
  account: string | null;
  secretPrefix: string | null;
};

export interface UltravoxTelephony {
  getSip(accountId: string, deadline: Deadline): Promise<ProviderSip>;
  /** Lists are replaced as a whole. Undefined fields stay unchanged. */
  updateSip(
    accountId: string,
    change: Partial<Pick<ProviderSip, "allowedCidrRanges" | "allowAllAgents" | "allowedAgents">>,
    deadline: Deadline,
  ): Promise<ProviderSip>;
  /** `about`: user names that are looked for. A row that cannot be read and names none of them is left out. */
  listRegistrations(accountId: string, about: readonly string[], deadline: Deadline): Promise<ProviderRegistration[]>;
  createRegistration(
    accountId: string,
    registration: {
      username: string;
      password: string;
      proxy: string;
      outboundProxy: string | null;
      authUser: string | null;
    },
    deadline: Deadline,
  ): Promise<ProviderRegistration>;
  deleteRegistration(accountId: string, providerRegistrationId: string, deadline: Deadline): Promise<void>;
  /** The configured carriers. */
  listCarriers(accountId: string, deadline: Deadline): Promise<ProviderCarrier[]>;
  /** Creates or updates the carrier. `fields` are in the provider's format and include secrets. */
  setCarrier(
    accountId: string,
    carrier: ProviderCarrier["carrier"],
    fields: Record<string, string>,
    deadline: Deadline,
  ): Promise<ProviderCarrier>;
  removeCarrier(accountId: string, carrier: ProviderCarrier["carrier"], deadline: Deadline): Promise<void>;
}
