CREATE TABLE "assigned_numbers" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"id" text NOT NULL,
	"provider_account_id" text NOT NULL,
	"pattern" text NOT NULL,
	"max_routes" integer DEFAULT 5 NOT NULL,
	"note" text,
	"assigned_by" text NOT NULL,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	CONSTRAINT "assigned_numbers_client_id_id_pk" PRIMARY KEY("client_id","id")
);
--> statement-breakpoint
ALTER TABLE "assigned_numbers" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
ALTER TABLE "assigned_numbers" ADD CONSTRAINT "assigned_numbers_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE UNIQUE INDEX "assigned_numbers_one" ON "assigned_numbers" USING btree ("provider_account_id","pattern");--> statement-breakpoint
CREATE INDEX "assigned_numbers_id_index" ON "assigned_numbers" USING btree ("id");--> statement-breakpoint
CREATE POLICY "own_rows" ON "assigned_numbers" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "house" ON "assigned_numbers" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
-- What answers on the shared account today goes on doing so. A pattern that is wide, or no longer wanted, an operator releases.
INSERT INTO "assigned_numbers" ("client_id", "id", "provider_account_id", "pattern", "max_routes", "note", "assigned_by")
	SELECT client_id, 'num_' || split_part(id, '_', 2), provider_account_id,
		CASE WHEN pattern ~ '^[0-9]+\*?$' THEN '+' || pattern ELSE pattern END, 20, 'Answered before numbers were assigned.', 'migration'
	FROM "inbound_routes" WHERE provider_account_id = 'pacc_platform' AND status = 'live' AND enabled
	ON CONFLICT DO NOTHING;--> statement-breakpoint
DROP INDEX "inbound_routes_one_owner";--> statement-breakpoint
CREATE UNIQUE INDEX "inbound_routes_one" ON "inbound_routes" USING btree ("client_id","provider_account_id","pattern");--> statement-breakpoint
CREATE INDEX "inbound_routes_provider_account_id_id_index" ON "inbound_routes" USING btree ("provider_account_id","id");--> statement-breakpoint
ALTER TABLE "agents" ADD COLUMN "required_variables" text[];--> statement-breakpoint
ALTER TABLE "calls" ADD COLUMN "from_raw" text;--> statement-breakpoint
ALTER TABLE "calls" ADD COLUMN "to_raw" text;--> statement-breakpoint
ALTER TABLE "calls" ADD COLUMN "from_state" text;
