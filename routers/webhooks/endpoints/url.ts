export { type AddressRules, isPublicAddress, objectionTo } from "../../ports/addresses.ts";
