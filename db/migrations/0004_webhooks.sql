CREATE TABLE "call_legs" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"id" text NOT NULL,
	"call_id" text NOT NULL,
	"carrier" text NOT NULL,
	"carrier_account_id" text NOT NULL,
	"carrier_leg_id" text NOT NULL,
	"carrier_session_id" text,
	"direction" text,
	"from" text,
	"to" text,
	"status" text NOT NULL,
	"cause" text,
	"hangup_cause" text,
	"hangup_source" text,
	"sip_hangup_cause" text,
	"started_at" timestamp with time zone,
	"answered_at" timestamp with time zone,
	"ended_at" timestamp with time zone,
	"duration_seconds" integer,
	"carrier_cost" text,
	"carrier_currency" text,
	"costed_at" timestamp with time zone,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	CONSTRAINT "call_legs_client_id_id_pk" PRIMARY KEY("client_id","id"),
	CONSTRAINT "call_legs_clientId_carrier_carrierLegId_unique" UNIQUE("client_id","carrier","carrier_leg_id")
);
--> statement-breakpoint
ALTER TABLE "call_legs" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "delivery_pauses" (
	"scope" text PRIMARY KEY NOT NULL,
	"reason" text NOT NULL,
	"paused_by" text NOT NULL,
	"paused_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
--> statement-breakpoint
ALTER TABLE "delivery_pauses" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "webhook_replays" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"id" text NOT NULL,
	"endpoint_id" text NOT NULL,
	"which" text NOT NULL,
	"since" timestamp with time zone NOT NULL,
	"until" timestamp with time zone NOT NULL,
	"event_types" text[],
	"status" text DEFAULT 'running' NOT NULL,
	"position" text,
	"queued" integer DEFAULT 0 NOT NULL,
	"txid" "xid8" DEFAULT pg_current_xact_id() NOT NULL,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"finished_at" timestamp with time zone,
	CONSTRAINT "webhook_replays_client_id_id_pk" PRIMARY KEY("client_id","id")
);
--> statement-breakpoint
ALTER TABLE "webhook_replays" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "bus_positions" (
	"bus" text PRIMARY KEY NOT NULL,
	"txid" "xid8" NOT NULL,
	"event_id" text NOT NULL,
	"failing_since" timestamp with time zone,
	"error" text,
	"failures" integer DEFAULT 0 NOT NULL,
	"holder" text,
	"free_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
--> statement-breakpoint
ALTER TABLE "bus_positions" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
ALTER TABLE "deliveries" DROP CONSTRAINT "deliveries_clientId_endpointId_eventId_unique";--> statement-breakpoint
ALTER TABLE "deliveries" ADD COLUMN "schedule_from" integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "deliveries" ADD COLUMN "replay_id" text;--> statement-breakpoint
ALTER TABLE "webhook_endpoints" ADD COLUMN "disabled_at" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "webhook_endpoints" ADD COLUMN "missed_since" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "webhook_endpoints" ADD COLUMN "missed_until" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "webhook_endpoints" ADD COLUMN "payload" text DEFAULT 'full' NOT NULL;--> statement-breakpoint
ALTER TABLE "webhook_endpoints" ADD COLUMN "signing" text DEFAULT 'v1' NOT NULL;--> statement-breakpoint
ALTER TABLE "webhook_endpoints" ADD COLUMN "public_key" text;--> statement-breakpoint
ALTER TABLE "webhook_endpoints" ADD COLUMN "previous_secrets" jsonb DEFAULT '[]'::jsonb NOT NULL;--> statement-breakpoint
ALTER TABLE "webhook_endpoints" ADD COLUMN "headers" "bytea";--> statement-breakpoint
ALTER TABLE "webhook_endpoints" ADD COLUMN "header_names" text[] DEFAULT '{}' NOT NULL;--> statement-breakpoint
ALTER TABLE "webhook_endpoints" ADD COLUMN "rate_per_second" integer;--> statement-breakpoint
ALTER TABLE "webhook_endpoints" ADD COLUMN "rate_due_at" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "webhook_endpoints" ADD COLUMN "failures_in_row" integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "webhook_endpoints" ADD COLUMN "failing_since" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "webhook_endpoints" ADD COLUMN "last_success_at" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "webhook_endpoints" ADD COLUMN "last_failure_at" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "ingress_events" ADD COLUMN "event_type" text DEFAULT '' NOT NULL;--> statement-breakpoint
ALTER TABLE "call_legs" ADD CONSTRAINT "call_legs_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "call_legs" ADD CONSTRAINT "call_legs_client_id_call_id_calls_client_id_id_fk" FOREIGN KEY ("client_id","call_id") REFERENCES "public"."calls"("client_id","id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "webhook_replays" ADD CONSTRAINT "webhook_replays_client_id_endpoint_id_webhook_endpoints_client_id_id_fk" FOREIGN KEY ("client_id","endpoint_id") REFERENCES "public"."webhook_endpoints"("client_id","id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "call_legs_client_id_call_id_id_index" ON "call_legs" USING btree ("client_id","call_id","id");--> statement-breakpoint
CREATE INDEX "webhook_replays_client_id_endpoint_id_id_index" ON "webhook_replays" USING btree ("client_id","endpoint_id","id");--> statement-breakpoint
CREATE UNIQUE INDEX "webhook_replays_running" ON "webhook_replays" USING btree ("client_id","endpoint_id") WHERE status = 'running';--> statement-breakpoint
CREATE INDEX "deliveries_dead" ON "deliveries" USING btree ("client_id","id") WHERE status = 'dead';--> statement-breakpoint
CREATE INDEX "deliveries_dead_since" ON "deliveries" USING btree ("client_id","finished_at") WHERE status = 'dead';--> statement-breakpoint
CREATE INDEX "deliveries_dead_of_endpoint" ON "deliveries" USING btree ("client_id","endpoint_id","id") WHERE status = 'dead';--> statement-breakpoint
CREATE INDEX "deliveries_of_replay" ON "deliveries" USING btree ("client_id","replay_id","status") WHERE replay_id is not null;--> statement-breakpoint
CREATE INDEX "events_txid_id_index" ON "events" USING btree ("txid","id");--> statement-breakpoint
CREATE INDEX "webhook_endpoints_id_index" ON "webhook_endpoints" USING btree ("id");--> statement-breakpoint
CREATE INDEX "webhook_endpoints_unwell" ON "webhook_endpoints" USING btree ("client_id","id") WHERE deleted_at is null and (status = 'disabled' or failing_since is not null);--> statement-breakpoint
CREATE INDEX "ingress_events_provider_state_id_index" ON "ingress_events" USING btree ("provider","status","id");--> statement-breakpoint
ALTER TABLE "deliveries" ADD CONSTRAINT "deliveries_clientId_eventId_endpointId_unique" UNIQUE("client_id","event_id","endpoint_id");--> statement-breakpoint
CREATE POLICY "house" ON "delivery_attempts" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "house" ON "events" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "call_legs" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "house" ON "delivery_pauses" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "webhook_replays" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "house" ON "webhook_replays" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "house" ON "bus_positions" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);