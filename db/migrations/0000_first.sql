CREATE TABLE "agent_versions" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"agent_id" text NOT NULL,
	"version" integer NOT NULL,
	"name" text NOT NULL,
	"config" jsonb NOT NULL,
	"status" text NOT NULL,
	"provider_revision_id" text,
	"created_by" text NOT NULL,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	CONSTRAINT "agent_versions_client_id_agent_id_version_pk" PRIMARY KEY("client_id","agent_id","version")
);
--> statement-breakpoint
ALTER TABLE "agent_versions" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "agents" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"id" text NOT NULL,
	"name" text NOT NULL,
	"status" text NOT NULL,
	"status_reason" text,
	"version" integer DEFAULT 0 NOT NULL,
	"provider_account_id" text NOT NULL,
	"provider_agent_id" text,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	CONSTRAINT "agents_client_id_id_pk" PRIMARY KEY("client_id","id")
);
--> statement-breakpoint
ALTER TABLE "agents" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "intents" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"id" text NOT NULL,
	"kind" text NOT NULL,
	"subject_id" text NOT NULL,
	"status" text DEFAULT 'open' NOT NULL,
	"outcome" text,
	"provider_account_id" text NOT NULL,
	"principal" text NOT NULL,
	"idempotency_key" text,
	"request_id" text NOT NULL,
	"audit_input" jsonb NOT NULL,
	"absences" integer DEFAULT 0 NOT NULL,
	"absent_at" timestamp with time zone,
	"deadline_at" timestamp with time zone NOT NULL,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"settled_at" timestamp with time zone,
	CONSTRAINT "intents_client_id_id_pk" PRIMARY KEY("client_id","id")
);
--> statement-breakpoint
ALTER TABLE "intents" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "holds" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"subject_id" text NOT NULL,
	"price_id" text NOT NULL,
	"amount_micros" bigint NOT NULL,
	"captured_micros" bigint DEFAULT 0 NOT NULL,
	"status" text DEFAULT 'held' NOT NULL,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	CONSTRAINT "holds_client_id_subject_id_pk" PRIMARY KEY("client_id","subject_id")
);
--> statement-breakpoint
ALTER TABLE "holds" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "ledger_accounts" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"name" text NOT NULL,
	"balance_micros" bigint DEFAULT 0 NOT NULL,
	CONSTRAINT "ledger_accounts_client_id_name_pk" PRIMARY KEY("client_id","name")
);
--> statement-breakpoint
ALTER TABLE "ledger_accounts" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "ledger_entries" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"transaction_id" text NOT NULL,
	"account" text NOT NULL,
	"amount_micros" bigint NOT NULL,
	CONSTRAINT "ledger_entries_client_id_transaction_id_account_pk" PRIMARY KEY("client_id","transaction_id","account")
);
--> statement-breakpoint
ALTER TABLE "ledger_entries" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "ledger_transactions" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"id" text NOT NULL,
	"kind" text NOT NULL,
	"source_id" text NOT NULL,
	"subject_id" text,
	"price_id" text,
	"memo" text,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	CONSTRAINT "ledger_transactions_client_id_id_pk" PRIMARY KEY("client_id","id"),
	CONSTRAINT "ledger_transactions_clientId_kind_sourceId_unique" UNIQUE("client_id","kind","source_id")
);
--> statement-breakpoint
ALTER TABLE "ledger_transactions" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "prices" (
	"id" text PRIMARY KEY NOT NULL,
	"effective_from" timestamp with time zone NOT NULL,
	"credit_usd_micros" bigint NOT NULL,
	"call_micros_per_minute" bigint NOT NULL,
	"telephone_micros_per_minute" bigint NOT NULL,
	"rounding_seconds" integer NOT NULL,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
--> statement-breakpoint
ALTER TABLE "prices" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "call_messages" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"call_id" text NOT NULL,
	"index" integer NOT NULL,
	"role" text NOT NULL,
	"text" text NOT NULL,
	"tool_name" text,
	"start_seconds" double precision,
	"end_seconds" double precision,
	"created_at" timestamp with time zone NOT NULL,
	CONSTRAINT "call_messages_client_id_call_id_index_created_at_pk" PRIMARY KEY("client_id","call_id","index","created_at")
) PARTITION BY RANGE ("created_at");
--> statement-breakpoint
ALTER TABLE "call_messages" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "calls" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"id" text NOT NULL,
	"agent_id" text NOT NULL,
	"agent_version" integer NOT NULL,
	"direction" text NOT NULL,
	"medium" text NOT NULL,
	"to" text,
	"from" text,
	"status" text NOT NULL,
	"outcome" text,
	"outcome_final" boolean DEFAULT false NOT NULL,
	"failure_reason" text,
	"end_reason" text,
	"variables" jsonb NOT NULL,
	"metadata" jsonb NOT NULL,
	"max_duration_seconds" integer NOT NULL,
	"join_timeout_seconds" integer NOT NULL,
	"recording_enabled" boolean NOT NULL,
	"join_url" text,
	"provider_account_id" text NOT NULL,
	"provider_call_id" text,
	"joined_at" timestamp with time zone,
	"ended_at" timestamp with time zone,
	"billed_seconds" integer,
	"sip_billed_seconds" integer,
	"billing_revision" integer DEFAULT 0 NOT NULL,
	"cost_micros" bigint,
	"summary" text,
	"short_summary" text,
	"check_at" timestamp with time zone,
	"checks" integer DEFAULT 0 NOT NULL,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	CONSTRAINT "calls_client_id_id_pk" PRIMARY KEY("client_id","id")
);
--> statement-breakpoint
ALTER TABLE "calls" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "api_keys" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"id" text NOT NULL,
	"name" text NOT NULL,
	"prefix" text NOT NULL,
	"hash" text NOT NULL,
	"scopes" text[] NOT NULL,
	"expires_at" timestamp with time zone,
	"revoked_at" timestamp with time zone,
	"last_used_at" timestamp with time zone,
	"created_by" text NOT NULL,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	CONSTRAINT "api_keys_client_id_id_pk" PRIMARY KEY("client_id","id"),
	CONSTRAINT "api_keys_hash_unique" UNIQUE("hash")
);
--> statement-breakpoint
ALTER TABLE "api_keys" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "clients" (
	"id" text PRIMARY KEY NOT NULL,
	"name" text NOT NULL,
	"status" text DEFAULT 'active' NOT NULL,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
--> statement-breakpoint
ALTER TABLE "clients" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "data_keys" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"id" text NOT NULL,
	"purpose" text NOT NULL,
	"master" text NOT NULL,
	"wrapped" text NOT NULL,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	CONSTRAINT "data_keys_client_id_id_pk" PRIMARY KEY("client_id","id"),
	CONSTRAINT "data_keys_clientId_purpose_unique" UNIQUE("client_id","purpose")
);
--> statement-breakpoint
ALTER TABLE "data_keys" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "idempotency_keys" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"principal" text NOT NULL,
	"key" text NOT NULL,
	"fingerprint" text NOT NULL,
	"request_id" text NOT NULL,
	"status" text NOT NULL,
	"intent_id" text,
	"answer" "bytea",
	"lease_until" timestamp with time zone,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"expires_at" timestamp with time zone NOT NULL,
	CONSTRAINT "idempotency_keys_client_id_principal_key_pk" PRIMARY KEY("client_id","principal","key")
);
--> statement-breakpoint
ALTER TABLE "idempotency_keys" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "memberships" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"id" text NOT NULL,
	"user_id" text NOT NULL,
	"role" text NOT NULL,
	"status" text DEFAULT 'active' NOT NULL,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	CONSTRAINT "memberships_client_id_id_pk" PRIMARY KEY("client_id","id"),
	CONSTRAINT "memberships_clientId_userId_unique" UNIQUE("client_id","user_id")
);
--> statement-breakpoint
ALTER TABLE "memberships" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "roles" (
	"name" text PRIMARY KEY NOT NULL,
	"scopes" text[] NOT NULL
);
--> statement-breakpoint
ALTER TABLE "roles" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "users" (
	"id" text PRIMARY KEY NOT NULL,
	"subject" text NOT NULL,
	"email" text,
	"name" text,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	CONSTRAINT "users_subject_unique" UNIQUE("subject")
);
--> statement-breakpoint
ALTER TABLE "users" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "audit_log" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"id" text NOT NULL,
	"actor" text NOT NULL,
	"action" text NOT NULL,
	"subject_id" text,
	"input" jsonb NOT NULL,
	"request_id" text NOT NULL,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"position" bigint,
	"hash" text,
	CONSTRAINT "audit_log_client_id_id_created_at_pk" PRIMARY KEY("client_id","id","created_at")
) PARTITION BY RANGE ("created_at");
--> statement-breakpoint
ALTER TABLE "audit_log" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "deliveries" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"id" text NOT NULL,
	"endpoint_id" text NOT NULL,
	"event_id" text NOT NULL,
	"event_type" text NOT NULL,
	"event_created_at" timestamp with time zone NOT NULL,
	"status" text DEFAULT 'pending' NOT NULL,
	"attempts" integer DEFAULT 0 NOT NULL,
	"next_attempt_at" timestamp with time zone,
	"admitted_until" timestamp with time zone,
	"claim" bigint DEFAULT 0 NOT NULL,
	"last_status" integer,
	"last_error" text,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"finished_at" timestamp with time zone,
	CONSTRAINT "deliveries_client_id_id_pk" PRIMARY KEY("client_id","id"),
	CONSTRAINT "deliveries_clientId_endpointId_eventId_unique" UNIQUE("client_id","endpoint_id","event_id")
);
--> statement-breakpoint
ALTER TABLE "deliveries" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "delivery_attempts" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"id" text NOT NULL,
	"delivery_id" text NOT NULL,
	"endpoint_id" text NOT NULL,
	"attempt" integer NOT NULL,
	"status" integer,
	"error" text,
	"latency_ms" integer NOT NULL,
	"response" text,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	CONSTRAINT "delivery_attempts_client_id_id_created_at_pk" PRIMARY KEY("client_id","id","created_at")
) PARTITION BY RANGE ("created_at");
--> statement-breakpoint
ALTER TABLE "delivery_attempts" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "event_counters" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"subject_id" text NOT NULL,
	"sequence" integer NOT NULL,
	CONSTRAINT "event_counters_client_id_subject_id_pk" PRIMARY KEY("client_id","subject_id")
);
--> statement-breakpoint
ALTER TABLE "event_counters" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "events" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"id" text NOT NULL,
	"type" text NOT NULL,
	"subject_type" text NOT NULL,
	"subject_id" text NOT NULL,
	"sequence" integer NOT NULL,
	"data" jsonb NOT NULL,
	"txid" "xid8" DEFAULT pg_current_xact_id() NOT NULL,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	CONSTRAINT "events_client_id_id_created_at_pk" PRIMARY KEY("client_id","id","created_at")
) PARTITION BY RANGE ("created_at");
--> statement-breakpoint
ALTER TABLE "events" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "webhook_endpoints" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"id" text NOT NULL,
	"url" text NOT NULL,
	"description" text,
	"event_types" text[] NOT NULL,
	"status" text DEFAULT 'enabled' NOT NULL,
	"disabled_reason" text,
	"secret" "bytea" NOT NULL,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"deleted_at" timestamp with time zone,
	CONSTRAINT "webhook_endpoints_client_id_id_pk" PRIMARY KEY("client_id","id")
);
--> statement-breakpoint
ALTER TABLE "webhook_endpoints" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "dead_jobs" (
	"id" text PRIMARY KEY NOT NULL,
	"task" text NOT NULL,
	"client_id" text,
	"payload" jsonb NOT NULL,
	"error" text,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
--> statement-breakpoint
ALTER TABLE "dead_jobs" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "ingress_events" (
	"id" text NOT NULL,
	"provider" text NOT NULL,
	"provider_account_id" text NOT NULL,
	"key" text NOT NULL,
	"body" "bytea" NOT NULL,
	"headers" jsonb NOT NULL,
	"verified_by" text NOT NULL,
	"stale" boolean DEFAULT false NOT NULL,
	"status" text DEFAULT 'received' NOT NULL,
	"client_id" text,
	"subject_id" text,
	"note" text,
	"attempts" integer DEFAULT 0 NOT NULL,
	"received_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"applied_at" timestamp with time zone,
	CONSTRAINT "ingress_events_id_received_at_pk" PRIMARY KEY("id","received_at")
) PARTITION BY RANGE ("received_at");
--> statement-breakpoint
ALTER TABLE "ingress_events" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "ingress_keys" (
	"provider" text NOT NULL,
	"provider_account_id" text NOT NULL,
	"key" text NOT NULL,
	"ingress_id" text NOT NULL,
	"received_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	CONSTRAINT "ingress_keys_provider_provider_account_id_key_pk" PRIMARY KEY("provider","provider_account_id","key")
);
--> statement-breakpoint
ALTER TABLE "ingress_keys" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "worker_heartbeats" (
	"pool_id" text PRIMARY KEY NOT NULL,
	"beat_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"started_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
--> statement-breakpoint
ALTER TABLE "worker_heartbeats" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
ALTER TABLE "agent_versions" ADD CONSTRAINT "agent_versions_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "agent_versions" ADD CONSTRAINT "agent_versions_client_id_agent_id_agents_client_id_id_fk" FOREIGN KEY ("client_id","agent_id") REFERENCES "public"."agents"("client_id","id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "agents" ADD CONSTRAINT "agents_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "intents" ADD CONSTRAINT "intents_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "holds" ADD CONSTRAINT "holds_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "holds" ADD CONSTRAINT "holds_price_id_prices_id_fk" FOREIGN KEY ("price_id") REFERENCES "public"."prices"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "ledger_accounts" ADD CONSTRAINT "ledger_accounts_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "ledger_entries" ADD CONSTRAINT "ledger_entries_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "ledger_entries" ADD CONSTRAINT "ledger_entries_client_id_transaction_id_ledger_transactions_client_id_id_fk" FOREIGN KEY ("client_id","transaction_id") REFERENCES "public"."ledger_transactions"("client_id","id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "ledger_entries" ADD CONSTRAINT "ledger_entries_client_id_account_ledger_accounts_client_id_name_fk" FOREIGN KEY ("client_id","account") REFERENCES "public"."ledger_accounts"("client_id","name") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "ledger_transactions" ADD CONSTRAINT "ledger_transactions_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "ledger_transactions" ADD CONSTRAINT "ledger_transactions_price_id_prices_id_fk" FOREIGN KEY ("price_id") REFERENCES "public"."prices"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "call_messages" ADD CONSTRAINT "call_messages_client_id_call_id_calls_client_id_id_fk" FOREIGN KEY ("client_id","call_id") REFERENCES "public"."calls"("client_id","id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "calls" ADD CONSTRAINT "calls_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "calls" ADD CONSTRAINT "calls_client_id_agent_id_agents_client_id_id_fk" FOREIGN KEY ("client_id","agent_id") REFERENCES "public"."agents"("client_id","id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "api_keys" ADD CONSTRAINT "api_keys_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "data_keys" ADD CONSTRAINT "data_keys_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "idempotency_keys" ADD CONSTRAINT "idempotency_keys_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "memberships" ADD CONSTRAINT "memberships_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "memberships" ADD CONSTRAINT "memberships_user_id_users_id_fk" FOREIGN KEY ("user_id") REFERENCES "public"."users"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "memberships" ADD CONSTRAINT "memberships_role_roles_name_fk" FOREIGN KEY ("role") REFERENCES "public"."roles"("name") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "deliveries" ADD CONSTRAINT "deliveries_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "deliveries" ADD CONSTRAINT "deliveries_client_id_endpoint_id_webhook_endpoints_client_id_id_fk" FOREIGN KEY ("client_id","endpoint_id") REFERENCES "public"."webhook_endpoints"("client_id","id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "event_counters" ADD CONSTRAINT "event_counters_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "webhook_endpoints" ADD CONSTRAINT "webhook_endpoints_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE UNIQUE INDEX "intents_one_open" ON "intents" USING btree ("client_id","subject_id") WHERE status = 'open';--> statement-breakpoint
CREATE INDEX "intents_open" ON "intents" USING btree ("deadline_at") WHERE status = 'open';--> statement-breakpoint
CREATE INDEX "ledger_transactions_client_id_subject_id_id_index" ON "ledger_transactions" USING btree ("client_id","subject_id","id");--> statement-breakpoint
CREATE INDEX "calls_client_id_agent_id_id_index" ON "calls" USING btree ("client_id","agent_id","id");--> statement-breakpoint
CREATE INDEX "calls_client_id_status_id_index" ON "calls" USING btree ("client_id","status","id");--> statement-breakpoint
CREATE INDEX "calls_check" ON "calls" USING btree ("check_at") WHERE check_at is not null;--> statement-breakpoint
CREATE INDEX "calls_provider" ON "calls" USING btree ("provider_account_id","provider_call_id");--> statement-breakpoint
CREATE INDEX "calls_by_id" ON "calls" USING btree ("id");--> statement-breakpoint
CREATE INDEX "idempotency_keys_expires_at_index" ON "idempotency_keys" USING btree ("expires_at");--> statement-breakpoint
CREATE INDEX "memberships_user_id_index" ON "memberships" USING btree ("user_id");--> statement-breakpoint
CREATE INDEX "audit_unchained" ON "audit_log" USING btree ("created_at") WHERE position is null;--> statement-breakpoint
CREATE INDEX "audit_log_client_id_position_index" ON "audit_log" USING btree ("client_id","position");--> statement-breakpoint
CREATE INDEX "deliveries_client_id_endpoint_id_id_index" ON "deliveries" USING btree ("client_id","endpoint_id","id");--> statement-breakpoint
CREATE INDEX "deliveries_waiting" ON "deliveries" USING btree ("client_id","endpoint_id","next_attempt_at") WHERE status = 'pending' and admitted_until is null;--> statement-breakpoint
CREATE INDEX "deliveries_in_flight" ON "deliveries" USING btree ("client_id","endpoint_id","admitted_until") WHERE status = 'pending' and admitted_until is not null;--> statement-breakpoint
CREATE INDEX "delivery_attempts_client_id_delivery_id_id_index" ON "delivery_attempts" USING btree ("client_id","delivery_id","id");--> statement-breakpoint
CREATE INDEX "events_client_id_txid_id_index" ON "events" USING btree ("client_id","txid","id");--> statement-breakpoint
CREATE INDEX "events_client_id_subject_id_sequence_index" ON "events" USING btree ("client_id","subject_id","sequence");--> statement-breakpoint
CREATE INDEX "gave_up_jobs_created_at_index" ON "dead_jobs" USING btree ("created_at");--> statement-breakpoint
CREATE INDEX "ingress_events_state_received_at_index" ON "ingress_events" USING btree ("status","received_at");--> statement-breakpoint
CREATE INDEX "ingress_keys_received_at_index" ON "ingress_keys" USING btree ("received_at");--> statement-breakpoint
CREATE POLICY "own_rows" ON "agent_versions" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "own_rows" ON "agents" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "own_rows" ON "intents" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "house" ON "intents" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "holds" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "own_rows" ON "ledger_accounts" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "own_rows" ON "ledger_entries" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "own_rows" ON "ledger_transactions" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "everyone_reads" ON "prices" AS PERMISSIVE FOR SELECT TO "patchbay_tenant" USING (true);--> statement-breakpoint
CREATE POLICY "house" ON "prices" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "call_messages" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "own_rows" ON "calls" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "house" ON "calls" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "api_keys" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "house" ON "api_keys" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "clients" AS PERMISSIVE FOR SELECT TO "patchbay_tenant" USING ("clients"."id" = (select nullif(current_setting('app.client_id', true), '')) or exists (select from memberships m where m.client_id = "clients"."id"));--> statement-breakpoint
CREATE POLICY "house" ON "clients" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "data_keys" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "house" ON "data_keys" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "idempotency_keys" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "house" ON "idempotency_keys" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "memberships" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "own_memberships" ON "memberships" AS PERMISSIVE FOR SELECT TO "patchbay_tenant" USING ("memberships"."user_id" = (select nullif(current_setting('app.user_id', true), '')));--> statement-breakpoint
CREATE POLICY "house" ON "memberships" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "everyone_reads" ON "roles" AS PERMISSIVE FOR SELECT TO "patchbay_tenant" USING (true);--> statement-breakpoint
CREATE POLICY "house" ON "roles" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_row" ON "users" AS PERMISSIVE FOR SELECT TO "patchbay_tenant" USING ("users"."id" = (select nullif(current_setting('app.user_id', true), '')));--> statement-breakpoint
CREATE POLICY "house" ON "users" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "audit_log" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "house" ON "audit_log" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "deliveries" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "house" ON "deliveries" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "delivery_attempts" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "own_rows" ON "event_counters" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "own_rows" ON "events" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "own_rows" ON "webhook_endpoints" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "house" ON "webhook_endpoints" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "house" ON "dead_jobs" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "house" ON "ingress_events" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "house" ON "ingress_keys" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "house" ON "worker_heartbeats" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);