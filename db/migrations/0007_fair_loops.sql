CREATE TABLE "set_apart" (
	"id" text PRIMARY KEY NOT NULL,
	"loop" text NOT NULL,
	"subject" text NOT NULL,
	"client_id" text,
	"reason" text NOT NULL,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	CONSTRAINT "set_apart_loop_subject_unique" UNIQUE("loop","subject")
);
--> statement-breakpoint
ALTER TABLE "set_apart" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "loop_heartbeats" (
	"loop" text PRIMARY KEY NOT NULL,
	"period_seconds" integer NOT NULL,
	"watched_since" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"last_success_at" timestamp with time zone
);
--> statement-breakpoint
ALTER TABLE "loop_heartbeats" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
DROP INDEX "audit_unchained";--> statement-breakpoint
DROP INDEX "deliveries_in_flight";--> statement-breakpoint
ALTER TABLE "worker_heartbeats" ADD COLUMN "kind" text DEFAULT '' NOT NULL;--> statement-breakpoint
ALTER TABLE "worker_heartbeats" ADD COLUMN "slots" integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "deliveries" ADD COLUMN "slow" boolean DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE "webhook_endpoints" ADD COLUMN "slow_at" timestamp with time zone;--> statement-breakpoint
CREATE INDEX "audit_unchained_of_client" ON "audit_log" USING btree ("client_id","created_at","id") WHERE position is null;--> statement-breakpoint
CREATE INDEX "deliveries_in_flight" ON "deliveries" USING btree ("client_id","endpoint_id","admitted_until","slow") WHERE status = 'pending' and admitted_until is not null;--> statement-breakpoint
CREATE POLICY "house" ON "set_apart" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "house" ON "loop_heartbeats" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);
