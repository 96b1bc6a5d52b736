-- The built-in roles, the first price, and the client that an operator's own audit rows and idempotency keys belong to.
insert into "roles" ("name", "scopes") values
  ('owner', array['*']),
  ('admin', array['*']),
  ('member', array['*:read', 'agents:write', 'calls:write', 'knowledge:write', 'tools:write', 'voices:write', 'webhooks:write']),
  ('viewer', array['*:read'])
on conflict do nothing;
--> statement-breakpoint
insert into "prices" ("id", "effective_from", "credit_usd_micros", "call_micros_per_minute", "telephone_micros_per_minute", "rounding_seconds")
values ('price_01m82k0000f8a8r8h7jz3c9q5d', '2026-01-01T00:00:00Z', 10000, 9000000, 1500000, 6)
on conflict do nothing;
--> statement-breakpoint
insert into "clients" ("id", "name") values ('client_00000000000000000000000000', 'The operator') on conflict do nothing;
