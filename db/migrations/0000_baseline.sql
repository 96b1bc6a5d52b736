CREATE TABLE "agent_uses" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"agent_id" text NOT NULL,
	"kind" text NOT NULL,
	"target_id" text NOT NULL,
	CONSTRAINT "agent_uses_client_id_agent_id_kind_target_id_pk" PRIMARY KEY("client_id","agent_id","kind","target_id")
);
--> statement-breakpoint
ALTER TABLE "agent_uses" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "agent_versions" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"agent_id" text NOT NULL,
	"version" integer NOT NULL,
	"name" text NOT NULL,
	"config" jsonb NOT NULL,
	"status" text NOT NULL,
	"changed" text[] DEFAULT '{}' NOT NULL,
	"metadata" jsonb,
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
	"metadata" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"compared_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"drifts" integer DEFAULT 0 NOT NULL,
	"required_variables" text[],
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
	"idempotency_owner" text,
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
	"voice_clone_micros" bigint DEFAULT 50000000 NOT NULL,
	"client_id" text,
	"inherits" boolean DEFAULT false NOT NULL,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
--> statement-breakpoint
ALTER TABLE "prices" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
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
CREATE TABLE "call_pairs" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"key" text NOT NULL,
	"value" text NOT NULL,
	"call_id" text NOT NULL,
	CONSTRAINT "call_pairs_client_id_key_value_call_id_pk" PRIMARY KEY("client_id","key","value","call_id")
);
--> statement-breakpoint
ALTER TABLE "call_pairs" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "call_words" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"word" text NOT NULL,
	"call_id" text NOT NULL,
	CONSTRAINT "call_words_client_id_word_call_id_pk" PRIMARY KEY("client_id","word","call_id")
);
--> statement-breakpoint
ALTER TABLE "call_words" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "calls" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"id" text NOT NULL,
	"agent_id" text NOT NULL,
	"agent_version" integer NOT NULL,
	"direction" text NOT NULL,
	"medium" text NOT NULL,
	"to" text,
	"from" text,
	"from_raw" text,
	"to_raw" text,
	"from_status" text,
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
	"overrides" jsonb,
	"duration_seconds" integer,
	"recording_status" text DEFAULT 'none' NOT NULL,
	"recording_key" text,
	"recording_bytes" bigint,
	"transcript_status" text DEFAULT 'pending' NOT NULL,
	"output" jsonb,
	"output_status" text DEFAULT 'none' NOT NULL,
	"output_problems" jsonb,
	"final_state" jsonb,
	"transcript_until" timestamp with time zone,
	"recording_until" timestamp with time zone,
	"erased_at" timestamp with time zone,
	"hang_up_when_joined" boolean DEFAULT false NOT NULL,
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
	"replaced_by" text,
	"root_id" text,
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
	"suspended_reason" text,
	"suspended_at" timestamp with time zone,
	"timezone" text DEFAULT 'UTC' NOT NULL,
	"metadata" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL
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
	"subject_id" text,
	"lease_until" timestamp with time zone,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"expires_at" timestamp with time zone NOT NULL,
	CONSTRAINT "idempotency_keys_client_id_principal_key_pk" PRIMARY KEY("client_id","principal","key")
);
--> statement-breakpoint
ALTER TABLE "idempotency_keys" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "invitations" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"id" text NOT NULL,
	"email" text NOT NULL,
	"role" text NOT NULL,
	"token_hash" text NOT NULL,
	"invited_by" text NOT NULL,
	"expires_at" timestamp with time zone NOT NULL,
	"accepted_at" timestamp with time zone,
	"accepted_by" text,
	"revoked_at" timestamp with time zone,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	CONSTRAINT "invitations_client_id_id_pk" PRIMARY KEY("client_id","id"),
	CONSTRAINT "invitations_tokenHash_unique" UNIQUE("token_hash")
);
--> statement-breakpoint
ALTER TABLE "invitations" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
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
CREATE TABLE "credentials" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"id" text NOT NULL,
	"provider" text NOT NULL,
	"prefix" text NOT NULL,
	"sealed" "bytea" NOT NULL,
	"details" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"status" text DEFAULT 'unverified' NOT NULL,
	"status_reason" text,
	"verified_at" timestamp with time zone,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	CONSTRAINT "credentials_client_id_id_pk" PRIMARY KEY("client_id","id"),
	CONSTRAINT "credentials_clientId_provider_unique" UNIQUE("client_id","provider")
);
--> statement-breakpoint
ALTER TABLE "credentials" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "provider_accounts" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"id" text NOT NULL,
	"status" text DEFAULT 'active' NOT NULL,
	"provider_name" text,
	"api_key" "bytea",
	"provider_webhook_id" text,
	"webhook_secret" "bytea",
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	CONSTRAINT "provider_accounts_client_id_id_pk" PRIMARY KEY("client_id","id")
);
--> statement-breakpoint
ALTER TABLE "provider_accounts" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
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
	"schedule_from" integer DEFAULT 0 NOT NULL,
	"replay_id" text,
	"next_attempt_at" timestamp with time zone,
	"admitted_until" timestamp with time zone,
	"claim" bigint DEFAULT 0 NOT NULL,
	"slow" boolean DEFAULT false NOT NULL,
	"last_status" integer,
	"last_error" text,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"finished_at" timestamp with time zone,
	CONSTRAINT "deliveries_client_id_id_pk" PRIMARY KEY("client_id","id"),
	CONSTRAINT "deliveries_clientId_eventId_endpointId_unique" UNIQUE("client_id","event_id","endpoint_id")
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
CREATE TABLE "delivery_pauses" (
	"scope" text PRIMARY KEY NOT NULL,
	"reason" text NOT NULL,
	"paused_by" text NOT NULL,
	"paused_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
--> statement-breakpoint
ALTER TABLE "delivery_pauses" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
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
	"disabled_code" text,
	"disabled_at" timestamp with time zone,
	"missed_since" timestamp with time zone,
	"missed_until" timestamp with time zone,
	"payload" text DEFAULT 'full' NOT NULL,
	"signing" text DEFAULT 'v1' NOT NULL,
	"public_key" text,
	"secret" "bytea" NOT NULL,
	"previous_secrets" jsonb DEFAULT '[]'::jsonb NOT NULL,
	"headers" "bytea",
	"header_names" text[] DEFAULT '{}' NOT NULL,
	"rate_per_second" integer,
	"rate_due_at" timestamp with time zone,
	"slow_at" timestamp with time zone,
	"consecutive_failures" integer DEFAULT 0 NOT NULL,
	"failing_since" timestamp with time zone,
	"last_success_at" timestamp with time zone,
	"last_failure_at" timestamp with time zone,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"deleted_at" timestamp with time zone,
	CONSTRAINT "webhook_endpoints_client_id_id_pk" PRIMARY KEY("client_id","id")
);
--> statement-breakpoint
ALTER TABLE "webhook_endpoints" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "webhook_replays" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"id" text NOT NULL,
	"endpoint_id" text NOT NULL,
	"which" text NOT NULL,
	"created_after" timestamp with time zone NOT NULL,
	"created_before" timestamp with time zone NOT NULL,
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
CREATE TABLE "uploads" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"id" text NOT NULL,
	"purpose" text NOT NULL,
	"subject_id" text,
	"object_key" text NOT NULL,
	"file_name" text NOT NULL,
	"content_type" text NOT NULL,
	"bytes" bigint NOT NULL,
	"sha256" text NOT NULL,
	"status" text DEFAULT 'pending' NOT NULL,
	"expires_at" timestamp with time zone NOT NULL,
	"verified_at" timestamp with time zone,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	CONSTRAINT "uploads_client_id_id_pk" PRIMARY KEY("client_id","id")
);
--> statement-breakpoint
ALTER TABLE "uploads" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "knowledge_bases" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"id" text NOT NULL,
	"name" text NOT NULL,
	"description" text,
	"status" text NOT NULL,
	"status_reason" text,
	"provider_account_id" text NOT NULL,
	"provider_corpus_id" text,
	"ready_files" integer DEFAULT 0 NOT NULL,
	"round" integer DEFAULT 0 NOT NULL,
	"metadata" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	CONSTRAINT "knowledge_bases_client_id_id_pk" PRIMARY KEY("client_id","id")
);
--> statement-breakpoint
ALTER TABLE "knowledge_bases" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "knowledge_files" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"id" text NOT NULL,
	"knowledge_base_id" text NOT NULL,
	"kind" text NOT NULL,
	"upload_id" text,
	"file_name" text,
	"content_type" text,
	"bytes" bigint,
	"url" text,
	"max_depth" integer,
	"max_documents" integer,
	"status" text NOT NULL,
	"status_reason" text,
	"attempt" integer DEFAULT 1 NOT NULL,
	"round" integer NOT NULL,
	"asked_at" timestamp with time zone,
	"provider_source_id" text,
	"provider_document_id" text,
	"documents" integer,
	"deadline_at" timestamp with time zone,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	CONSTRAINT "knowledge_files_client_id_id_pk" PRIMARY KEY("client_id","id")
);
--> statement-breakpoint
ALTER TABLE "knowledge_files" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
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
	"event_type" text DEFAULT '' NOT NULL,
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
CREATE TABLE "loop_heartbeats" (
	"loop" text PRIMARY KEY NOT NULL,
	"period_seconds" integer NOT NULL,
	"watched_since" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"last_success_at" timestamp with time zone
);
--> statement-breakpoint
ALTER TABLE "loop_heartbeats" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
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
CREATE TABLE "worker_heartbeats" (
	"pool_id" text PRIMARY KEY NOT NULL,
	"kind" text DEFAULT '' NOT NULL,
	"slots" integer DEFAULT 0 NOT NULL,
	"beat_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"started_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
--> statement-breakpoint
ALTER TABLE "worker_heartbeats" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
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
CREATE TABLE "inbound_routes" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"id" text NOT NULL,
	"pattern" text NOT NULL,
	"agent_id" text NOT NULL,
	"rank" integer DEFAULT 0 NOT NULL,
	"enabled" boolean DEFAULT true NOT NULL,
	"description" text,
	"provider_account_id" text NOT NULL,
	"status" text DEFAULT 'pending' NOT NULL,
	"status_reason" text,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	CONSTRAINT "inbound_routes_client_id_id_pk" PRIMARY KEY("client_id","id")
);
--> statement-breakpoint
ALTER TABLE "inbound_routes" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "sip_registrations" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"id" text NOT NULL,
	"username" text NOT NULL,
	"proxy" text NOT NULL,
	"outbound_proxy" text,
	"auth_user" text,
	"status" text NOT NULL,
	"status_reason" text,
	"registered" boolean,
	"registered_at" timestamp with time zone,
	"provider_account_id" text NOT NULL,
	"provider_registration_id" text,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	CONSTRAINT "sip_registrations_client_id_id_pk" PRIMARY KEY("client_id","id")
);
--> statement-breakpoint
ALTER TABLE "sip_registrations" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "telephony_configs" (
	"client_id" text PRIMARY KEY DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"default_carrier" text,
	"default_from" text,
	"allowed_cidr_ranges" text[] DEFAULT '{}' NOT NULL,
	"settings" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"updated_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
--> statement-breakpoint
ALTER TABLE "telephony_configs" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "tools" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"id" text NOT NULL,
	"name" text NOT NULL,
	"description" text NOT NULL,
	"kind" text NOT NULL,
	"config" jsonb NOT NULL,
	"pending" jsonb,
	"version" integer DEFAULT 0 NOT NULL,
	"status" text NOT NULL,
	"status_reason" text,
	"provider_account_id" text NOT NULL,
	"provider_tool_id" text,
	"metadata" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	CONSTRAINT "tools_client_id_id_pk" PRIMARY KEY("client_id","id")
);
--> statement-breakpoint
ALTER TABLE "tools" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "voices" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"id" text NOT NULL,
	"name" text NOT NULL,
	"description" text,
	"language" text NOT NULL,
	"kind" text NOT NULL,
	"provider" text NOT NULL,
	"definition" jsonb,
	"sealed_headers" "bytea",
	"sample_ids" text[] DEFAULT '{}' NOT NULL,
	"status" text NOT NULL,
	"status_reason" text,
	"provider_account_id" text NOT NULL,
	"provider_voice_id" text,
	"metadata" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"checked_at" timestamp with time zone,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	CONSTRAINT "voices_client_id_id_pk" PRIMARY KEY("client_id","id")
);
--> statement-breakpoint
ALTER TABLE "voices" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "workflow_runs" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"id" text NOT NULL,
	"name" text NOT NULL,
	"subject_id" text NOT NULL,
	"status" text DEFAULT 'running' NOT NULL,
	"input" jsonb DEFAULT '{}'::jsonb NOT NULL,
	"created_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
	"finished_at" timestamp with time zone,
	CONSTRAINT "workflow_runs_client_id_id_pk" PRIMARY KEY("client_id","id")
);
--> statement-breakpoint
ALTER TABLE "workflow_runs" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE TABLE "workflow_steps" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"run_id" text NOT NULL,
	"position" integer NOT NULL,
	"name" text NOT NULL,
	"status" text DEFAULT 'waiting' NOT NULL,
	"attempts" integer DEFAULT 0 NOT NULL,
	"error" text,
	"next_at" timestamp with time zone,
	"started_at" timestamp with time zone,
	"finished_at" timestamp with time zone,
	CONSTRAINT "workflow_steps_client_id_run_id_position_pk" PRIMARY KEY("client_id","run_id","position")
);
--> statement-breakpoint
ALTER TABLE "workflow_steps" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
ALTER TABLE "agent_uses" ADD CONSTRAINT "agent_uses_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "agent_uses" ADD CONSTRAINT "agent_uses_client_id_agent_id_agents_client_id_id_fk" FOREIGN KEY ("client_id","agent_id") REFERENCES "public"."agents"("client_id","id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
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
ALTER TABLE "prices" ADD CONSTRAINT "prices_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "call_legs" ADD CONSTRAINT "call_legs_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "call_legs" ADD CONSTRAINT "call_legs_client_id_call_id_calls_client_id_id_fk" FOREIGN KEY ("client_id","call_id") REFERENCES "public"."calls"("client_id","id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "call_messages" ADD CONSTRAINT "call_messages_client_id_call_id_calls_client_id_id_fk" FOREIGN KEY ("client_id","call_id") REFERENCES "public"."calls"("client_id","id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "call_pairs" ADD CONSTRAINT "call_pairs_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "call_pairs" ADD CONSTRAINT "call_pairs_client_id_call_id_calls_client_id_id_fk" FOREIGN KEY ("client_id","call_id") REFERENCES "public"."calls"("client_id","id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "call_words" ADD CONSTRAINT "call_words_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "call_words" ADD CONSTRAINT "call_words_client_id_call_id_calls_client_id_id_fk" FOREIGN KEY ("client_id","call_id") REFERENCES "public"."calls"("client_id","id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "calls" ADD CONSTRAINT "calls_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "calls" ADD CONSTRAINT "calls_client_id_agent_id_agents_client_id_id_fk" FOREIGN KEY ("client_id","agent_id") REFERENCES "public"."agents"("client_id","id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "api_keys" ADD CONSTRAINT "api_keys_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "data_keys" ADD CONSTRAINT "data_keys_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "idempotency_keys" ADD CONSTRAINT "idempotency_keys_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "invitations" ADD CONSTRAINT "invitations_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "invitations" ADD CONSTRAINT "invitations_role_roles_name_fk" FOREIGN KEY ("role") REFERENCES "public"."roles"("name") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "memberships" ADD CONSTRAINT "memberships_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "memberships" ADD CONSTRAINT "memberships_user_id_users_id_fk" FOREIGN KEY ("user_id") REFERENCES "public"."users"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "memberships" ADD CONSTRAINT "memberships_role_roles_name_fk" FOREIGN KEY ("role") REFERENCES "public"."roles"("name") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "credentials" ADD CONSTRAINT "credentials_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "provider_accounts" ADD CONSTRAINT "provider_accounts_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "deliveries" ADD CONSTRAINT "deliveries_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "deliveries" ADD CONSTRAINT "deliveries_client_id_endpoint_id_webhook_endpoints_client_id_id_fk" FOREIGN KEY ("client_id","endpoint_id") REFERENCES "public"."webhook_endpoints"("client_id","id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "event_counters" ADD CONSTRAINT "event_counters_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "webhook_endpoints" ADD CONSTRAINT "webhook_endpoints_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "webhook_replays" ADD CONSTRAINT "webhook_replays_client_id_endpoint_id_webhook_endpoints_client_id_id_fk" FOREIGN KEY ("client_id","endpoint_id") REFERENCES "public"."webhook_endpoints"("client_id","id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "uploads" ADD CONSTRAINT "uploads_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "knowledge_bases" ADD CONSTRAINT "knowledge_bases_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "knowledge_files" ADD CONSTRAINT "knowledge_files_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "knowledge_files" ADD CONSTRAINT "knowledge_files_client_id_knowledge_base_id_knowledge_bases_client_id_id_fk" FOREIGN KEY ("client_id","knowledge_base_id") REFERENCES "public"."knowledge_bases"("client_id","id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "assigned_numbers" ADD CONSTRAINT "assigned_numbers_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "inbound_routes" ADD CONSTRAINT "inbound_routes_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "inbound_routes" ADD CONSTRAINT "inbound_routes_client_id_agent_id_agents_client_id_id_fk" FOREIGN KEY ("client_id","agent_id") REFERENCES "public"."agents"("client_id","id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "sip_registrations" ADD CONSTRAINT "sip_registrations_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "telephony_configs" ADD CONSTRAINT "telephony_configs_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "tools" ADD CONSTRAINT "tools_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "voices" ADD CONSTRAINT "voices_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "workflow_runs" ADD CONSTRAINT "workflow_runs_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "workflow_steps" ADD CONSTRAINT "workflow_steps_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "workflow_steps" ADD CONSTRAINT "workflow_steps_client_id_run_id_workflow_runs_client_id_id_fk" FOREIGN KEY ("client_id","run_id") REFERENCES "public"."workflow_runs"("client_id","id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "agent_uses_client_id_kind_target_id_index" ON "agent_uses" USING btree ("client_id","kind","target_id");--> statement-breakpoint
CREATE INDEX "agents_provider" ON "agents" USING btree ("provider_account_id","provider_agent_id");--> statement-breakpoint
CREATE INDEX "agents_compare" ON "agents" USING btree ("compared_at") WHERE status = 'active';--> statement-breakpoint
CREATE UNIQUE INDEX "intents_one_open" ON "intents" USING btree ("client_id","subject_id") WHERE status = 'open';--> statement-breakpoint
CREATE INDEX "intents_open" ON "intents" USING btree ("deadline_at") WHERE status = 'open';--> statement-breakpoint
CREATE INDEX "ledger_transactions_client_id_subject_id_id_index" ON "ledger_transactions" USING btree ("client_id","subject_id","id");--> statement-breakpoint
CREATE INDEX "prices_client_id_effective_from_index" ON "prices" USING btree ("client_id","effective_from");--> statement-breakpoint
CREATE INDEX "call_legs_client_id_call_id_id_index" ON "call_legs" USING btree ("client_id","call_id","id");--> statement-breakpoint
CREATE INDEX "call_pairs_client_id_call_id_index" ON "call_pairs" USING btree ("client_id","call_id");--> statement-breakpoint
CREATE INDEX "call_words_client_id_call_id_index" ON "call_words" USING btree ("client_id","call_id");--> statement-breakpoint
CREATE INDEX "calls_client_id_agent_id_id_index" ON "calls" USING btree ("client_id","agent_id","id");--> statement-breakpoint
CREATE INDEX "calls_client_id_status_id_index" ON "calls" USING btree ("client_id","status","id");--> statement-breakpoint
CREATE INDEX "calls_client_id_outcome_id_index" ON "calls" USING btree ("client_id","outcome","id");--> statement-breakpoint
CREATE INDEX "calls_client_id_direction_id_index" ON "calls" USING btree ("client_id","direction","id");--> statement-breakpoint
CREATE INDEX "calls_client_id_to_id_index" ON "calls" USING btree ("client_id","to","id");--> statement-breakpoint
CREATE INDEX "calls_client_id_from_id_index" ON "calls" USING btree ("client_id","from","id");--> statement-breakpoint
CREATE INDEX "calls_artifacts" ON "calls" USING btree ("ended_at") WHERE recording_status in ('pending', 'missing') or transcript_status in ('pending', 'missing');--> statement-breakpoint
CREATE INDEX "calls_retention_transcript" ON "calls" USING btree ("transcript_until") WHERE transcript_until is not null;--> statement-breakpoint
CREATE INDEX "calls_retention_recording" ON "calls" USING btree ("recording_until") WHERE recording_until is not null;--> statement-breakpoint
CREATE INDEX "calls_check" ON "calls" USING btree ("check_at") WHERE check_at is not null;--> statement-breakpoint
CREATE UNIQUE INDEX "calls_provider" ON "calls" USING btree ("provider_account_id","provider_call_id");--> statement-breakpoint
CREATE INDEX "calls_duration" ON "calls" USING btree ("client_id","id","duration_seconds");--> statement-breakpoint
CREATE INDEX "calls_recorded" ON "calls" USING btree ("client_id","id") WHERE recording_status = 'ready';--> statement-breakpoint
CREATE INDEX "calls_unrecorded" ON "calls" USING btree ("client_id","id") WHERE recording_status <> 'ready';--> statement-breakpoint
CREATE INDEX "calls_by_id" ON "calls" USING hash ("id");--> statement-breakpoint
CREATE INDEX "idempotency_keys_expires_at_index" ON "idempotency_keys" USING btree ("expires_at");--> statement-breakpoint
CREATE INDEX "idempotency_keys_subject" ON "idempotency_keys" USING btree ("client_id","subject_id") WHERE subject_id is not null;--> statement-breakpoint
CREATE INDEX "memberships_user_id_index" ON "memberships" USING btree ("user_id");--> statement-breakpoint
CREATE INDEX "provider_accounts_by_id" ON "provider_accounts" USING btree ("id");--> statement-breakpoint
CREATE UNIQUE INDEX "provider_accounts_one_active" ON "provider_accounts" USING btree ("client_id") WHERE status = 'active';--> statement-breakpoint
CREATE UNIQUE INDEX "provider_accounts_one_owner" ON "provider_accounts" USING btree ("provider_name") WHERE status = 'active';--> statement-breakpoint
CREATE INDEX "audit_unchained_of_client" ON "audit_log" USING btree ("client_id","created_at","id") WHERE position is null;--> statement-breakpoint
CREATE INDEX "audit_log_client_id_position_index" ON "audit_log" USING btree ("client_id","position");--> statement-breakpoint
CREATE INDEX "deliveries_client_id_endpoint_id_id_index" ON "deliveries" USING btree ("client_id","endpoint_id","id");--> statement-breakpoint
CREATE INDEX "deliveries_dead" ON "deliveries" USING btree ("client_id","id") WHERE status = 'dead';--> statement-breakpoint
CREATE INDEX "deliveries_dead_since" ON "deliveries" USING btree ("client_id","finished_at") WHERE status = 'dead';--> statement-breakpoint
CREATE INDEX "deliveries_dead_of_endpoint" ON "deliveries" USING btree ("client_id","endpoint_id","id") WHERE status = 'dead';--> statement-breakpoint
CREATE INDEX "deliveries_of_replay" ON "deliveries" USING btree ("client_id","replay_id","status") WHERE replay_id is not null;--> statement-breakpoint
CREATE INDEX "deliveries_waiting" ON "deliveries" USING btree ("client_id","endpoint_id","next_attempt_at") WHERE status = 'pending' and admitted_until is null;--> statement-breakpoint
CREATE INDEX "deliveries_in_flight" ON "deliveries" USING btree ("client_id","endpoint_id","admitted_until","slow") WHERE status = 'pending' and admitted_until is not null;--> statement-breakpoint
CREATE INDEX "delivery_attempts_client_id_delivery_id_id_index" ON "delivery_attempts" USING btree ("client_id","delivery_id","id");--> statement-breakpoint
CREATE INDEX "events_client_id_txid_id_index" ON "events" USING btree ("client_id","txid","id");--> statement-breakpoint
CREATE INDEX "events_client_id_subject_id_sequence_index" ON "events" USING btree ("client_id","subject_id","sequence");--> statement-breakpoint
CREATE INDEX "events_txid_id_index" ON "events" USING btree ("txid","id");--> statement-breakpoint
CREATE INDEX "webhook_endpoints_id_index" ON "webhook_endpoints" USING btree ("id");--> statement-breakpoint
CREATE INDEX "webhook_endpoints_unwell" ON "webhook_endpoints" USING btree ("client_id","id") WHERE deleted_at is null and (status = 'disabled' or failing_since is not null);--> statement-breakpoint
CREATE INDEX "webhook_replays_client_id_endpoint_id_id_index" ON "webhook_replays" USING btree ("client_id","endpoint_id","id");--> statement-breakpoint
CREATE UNIQUE INDEX "webhook_replays_running" ON "webhook_replays" USING btree ("client_id","endpoint_id") WHERE status = 'running';--> statement-breakpoint
CREATE INDEX "uploads_stale" ON "uploads" USING btree ("expires_at") WHERE status in ('pending', 'verified');--> statement-breakpoint
CREATE INDEX "knowledge_files_client_id_knowledge_base_id_id_index" ON "knowledge_files" USING btree ("client_id","knowledge_base_id","id");--> statement-breakpoint
CREATE INDEX "knowledge_files_open" ON "knowledge_files" USING btree ("deadline_at") WHERE status in ('pending', 'ingesting');--> statement-breakpoint
CREATE INDEX "dead_jobs_created_at_index" ON "dead_jobs" USING btree ("created_at");--> statement-breakpoint
CREATE INDEX "ingress_events_status_received_at_index" ON "ingress_events" USING btree ("status","received_at");--> statement-breakpoint
CREATE INDEX "ingress_events_provider_status_id_index" ON "ingress_events" USING btree ("provider","status","id");--> statement-breakpoint
CREATE INDEX "ingress_events_subject" ON "ingress_events" USING btree ("subject_id") WHERE subject_id is not null;--> statement-breakpoint
CREATE INDEX "ingress_keys_received_at_index" ON "ingress_keys" USING btree ("received_at");--> statement-breakpoint
CREATE UNIQUE INDEX "assigned_numbers_one" ON "assigned_numbers" USING btree ("provider_account_id","pattern");--> statement-breakpoint
CREATE INDEX "assigned_numbers_id_index" ON "assigned_numbers" USING btree ("id");--> statement-breakpoint
CREATE UNIQUE INDEX "inbound_routes_one" ON "inbound_routes" USING btree ("client_id","provider_account_id","pattern");--> statement-breakpoint
CREATE INDEX "inbound_routes_provider_account_id_id_index" ON "inbound_routes" USING btree ("provider_account_id","id");--> statement-breakpoint
CREATE INDEX "inbound_routes_client_id_rank_id_index" ON "inbound_routes" USING btree ("client_id","rank","id");--> statement-breakpoint
CREATE UNIQUE INDEX "sip_registrations_one" ON "sip_registrations" USING btree ("provider_account_id","username","proxy") WHERE status in ('provisioning', 'active');--> statement-breakpoint
CREATE UNIQUE INDEX "tools_one_name" ON "tools" USING btree ("client_id","name") WHERE status in ('provisioning', 'active');--> statement-breakpoint
CREATE INDEX "voices_by_id" ON "voices" USING btree ("id");--> statement-breakpoint
CREATE INDEX "voices_being_made" ON "voices" USING btree ("updated_at") WHERE status in ('pending', 'training');--> statement-breakpoint
CREATE INDEX "voices_to_check" ON "voices" USING btree ("checked_at") WHERE status = 'active';--> statement-breakpoint
CREATE INDEX "workflow_runs_client_id_subject_id_id_index" ON "workflow_runs" USING btree ("client_id","subject_id","id");--> statement-breakpoint
CREATE INDEX "workflow_runs_by_id" ON "workflow_runs" USING btree ("id");--> statement-breakpoint
CREATE INDEX "workflow_runs_state" ON "workflow_runs" USING btree ("status","id");--> statement-breakpoint
CREATE UNIQUE INDEX "workflow_runs_one_running" ON "workflow_runs" USING btree ("client_id","name","subject_id") WHERE status = 'running';--> statement-breakpoint
CREATE INDEX "workflow_steps_due" ON "workflow_steps" USING btree ("next_at") WHERE status = 'running';--> statement-breakpoint
CREATE POLICY "own_rows" ON "agent_uses" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "own_rows" ON "agent_versions" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "own_rows" ON "agents" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "system" ON "agents" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "intents" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "system" ON "intents" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "holds" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "own_rows" ON "ledger_accounts" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "own_rows" ON "ledger_entries" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "own_rows" ON "ledger_transactions" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "everyone_reads" ON "prices" AS PERMISSIVE FOR SELECT TO "patchbay_tenant" USING ("prices"."client_id" is null or "prices"."client_id" = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "system" ON "prices" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "call_legs" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "own_rows" ON "call_messages" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "own_rows" ON "call_pairs" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "own_rows" ON "call_words" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "own_rows" ON "calls" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "system" ON "calls" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "api_keys" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "system" ON "api_keys" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "clients" AS PERMISSIVE FOR SELECT TO "patchbay_tenant" USING ("clients"."id" = (select nullif(current_setting('app.client_id', true), '')) or exists (select from memberships m where m.client_id = "clients"."id"));--> statement-breakpoint
CREATE POLICY "own_changes" ON "clients" AS PERMISSIVE FOR UPDATE TO "patchbay_tenant" USING ("clients"."id" = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK ("clients"."id" = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "system" ON "clients" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "data_keys" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "system" ON "data_keys" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "idempotency_keys" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "system" ON "idempotency_keys" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "invitations" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "system" ON "invitations" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "memberships" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "own_memberships" ON "memberships" AS PERMISSIVE FOR SELECT TO "patchbay_tenant" USING ("memberships"."user_id" = (select nullif(current_setting('app.user_id', true), '')));--> statement-breakpoint
CREATE POLICY "system" ON "memberships" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "everyone_reads" ON "roles" AS PERMISSIVE FOR SELECT TO "patchbay_tenant" USING (true);--> statement-breakpoint
CREATE POLICY "system" ON "roles" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_row" ON "users" AS PERMISSIVE FOR SELECT TO "patchbay_tenant" USING ("users"."id" = (select nullif(current_setting('app.user_id', true), '')) or exists (select from memberships m where m.user_id = "users"."id" and m.client_id = (select nullif(current_setting('app.client_id', true), ''))));--> statement-breakpoint
CREATE POLICY "system" ON "users" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "credentials" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "own_rows" ON "provider_accounts" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "system" ON "provider_accounts" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "audit_log" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "system" ON "audit_log" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "deliveries" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "system" ON "deliveries" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "delivery_attempts" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "system" ON "delivery_attempts" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "system" ON "delivery_pauses" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "event_counters" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "own_rows" ON "events" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "system" ON "events" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "webhook_endpoints" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "system" ON "webhook_endpoints" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "webhook_replays" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "system" ON "webhook_replays" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "uploads" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "system" ON "uploads" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "knowledge_bases" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "system" ON "knowledge_bases" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "knowledge_files" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "system" ON "knowledge_files" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "system" ON "bus_positions" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "system" ON "dead_jobs" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "system" ON "ingress_events" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "system" ON "ingress_keys" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "system" ON "loop_heartbeats" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "system" ON "set_apart" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "system" ON "worker_heartbeats" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "assigned_numbers" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "system" ON "assigned_numbers" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "inbound_routes" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "system" ON "inbound_routes" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "sip_registrations" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "system" ON "sip_registrations" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "telephony_configs" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "system" ON "telephony_configs" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "tools" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "own_rows" ON "voices" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "system" ON "voices" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "workflow_runs" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "system" ON "workflow_runs" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "workflow_steps" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "system" ON "workflow_steps" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);