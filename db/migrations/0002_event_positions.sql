-- Existing events keep the id of their transaction as their position: their order stays, and so do the cursors of readers.
DROP INDEX "events_client_id_txid_id_index";--> statement-breakpoint
DROP INDEX "events_txid_id_index";--> statement-breakpoint
ALTER TABLE "events" ALTER COLUMN "txid" DROP DEFAULT;--> statement-breakpoint
ALTER TABLE "events" ALTER COLUMN "txid" SET DATA TYPE bigint USING txid::text::bigint;--> statement-breakpoint
ALTER TABLE "events" RENAME COLUMN "txid" TO "position";--> statement-breakpoint
ALTER TABLE "events" ALTER COLUMN "position" SET DEFAULT (pg_current_xact_id()::text::bigint + coalesce(nullif(current_setting('patchbay.position_offset', true), ''), '0')::bigint);--> statement-breakpoint
ALTER TABLE "event_counters" ADD COLUMN "position" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "bus_positions" ALTER COLUMN "txid" SET DATA TYPE bigint USING txid::text::bigint;--> statement-breakpoint
ALTER TABLE "bus_positions" RENAME COLUMN "txid" TO "position";--> statement-breakpoint
ALTER TABLE "bus_positions" ADD COLUMN "sequence" integer DEFAULT 0 NOT NULL;--> statement-breakpoint
CREATE INDEX "events_client_id_position_sequence_id_index" ON "events" USING btree ("client_id","position","sequence","id");--> statement-breakpoint
CREATE INDEX "events_position_sequence_id_index" ON "events" USING btree ("position","sequence","id");--> statement-breakpoint
CREATE TABLE "event_fan_outs" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"event_id" text NOT NULL,
	"event_created_at" timestamp with time zone NOT NULL,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	CONSTRAINT "event_fan_outs_client_id_event_id_pk" PRIMARY KEY("client_id","event_id")
);
--> statement-breakpoint
ALTER TABLE "event_fan_outs" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE POLICY "own_rows" ON "event_fan_outs" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "system" ON "event_fan_outs" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
-- Every row is removed soon after it was written: without frequent vacuums, each read would pass many dead ones.
ALTER TABLE "event_fan_outs" SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 10000);
