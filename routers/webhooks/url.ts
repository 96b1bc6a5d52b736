export { type AddressRules, isPublicAddress, objectionTo } from "../addresses.ts";
