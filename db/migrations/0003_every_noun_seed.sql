-- What a member may change grew with the nouns. The operator of the installation is a client of his own: his
-- idempotency keys and his audit stand under it. An owner who is no superuser is held by the walls too, hence `no force`;
-- db/grants.sql puts it back.
alter table "roles" no force row level security;
--> statement-breakpoint
alter table "clients" no force row level security;
--> statement-breakpoint
update "roles" set "scopes" = array['*:read', 'agents:write', 'calls:write', 'knowledge:write', 'tools:write', 'voices:write', 'webhooks:write']
where "name" = 'member';
--> statement-breakpoint
insert into "clients" ("id", "name") values ('client_00000000000000000000000000', 'The operator') on conflict do nothing;
