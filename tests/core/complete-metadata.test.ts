import { expect, test } from "vitest";
import { completeMeta } from "../../routers/core/complete-metadata.ts";
import { type Access, type Meta, rest } from "../../routers/core/rest-metadata.ts";

const meta: Meta = { ...rest("GET", "/probes", "agents:read", "List probes"), access: "tenant" };

test("complete metadata is returned unchanged", () => {
  expect(completeMeta("probes.list", meta, "tenant")).toBe(meta);
});

test.each<[string, Meta | undefined, Access | undefined, RegExp]>([
  ["no builder of ours", meta, undefined, /build it with a builder/],
  ["no metadata", undefined, "tenant", /it has no metadata/],
  ["the access of another builder", { ...meta, access: "self" }, "tenant", /states access "tenant", but .* "self"/],
  ["no access", { ...meta, access: undefined as never }, "tenant", /states access "tenant"/],
  ["the scope of another access", { ...meta, scope: "platform:read" }, "tenant", /scope platform:read does not belong/],
  ["no scope", { ...meta, scope: null }, "tenant", /scope null does not belong/],
  ["an unknown limit", { ...meta, limit: "toString" as never }, "tenant", /limit toString is not in/],
  ["no status", { ...meta, status: undefined as never }, "tenant", /it states no status/],
  ["no errors", { ...meta, errors: undefined as never }, "tenant", /or no errors/],
])("a procedure with %s stops the start and is named", (_, incomplete, access, problem) => {
  expect(() => completeMeta("probes.list", incomplete, access)).toThrow(problem);
  expect(() => completeMeta("probes.list", incomplete, access)).toThrow("The procedure probes.list is incomplete");
});
