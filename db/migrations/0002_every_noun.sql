CREATE TABLE "agent_uses" (
	"client_id" text DEFAULT nullif(current_setting('app.client_id', true), '') NOT NULL,
	"agent_id" text NOT NULL,
	"kind" text NOT NULL,
	"target_id" text NOT NULL,
	CONSTRAINT "agent_uses_client_id_agent_id_kind_target_id_pk" PRIMARY KEY("client_id","agent_id","kind","target_id")
);
--> statement-breakpoint
ALTER TABLE "agent_uses" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
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
DROP INDEX "calls_provider";--> statement-breakpoint
DROP INDEX "calls_by_id";--> statement-breakpoint
ALTER TABLE "agent_versions" ADD COLUMN "changed" text[] DEFAULT '{}' NOT NULL;--> statement-breakpoint
ALTER TABLE "agent_versions" ADD COLUMN "metadata" jsonb;--> statement-breakpoint
ALTER TABLE "agents" ADD COLUMN "metadata" jsonb DEFAULT '{}'::jsonb NOT NULL;--> statement-breakpoint
ALTER TABLE "agents" ADD COLUMN "compared_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL;--> statement-breakpoint
ALTER TABLE "agents" ADD COLUMN "drifts" integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "prices" ADD COLUMN "voice_clone_micros" bigint DEFAULT 50000000 NOT NULL;--> statement-breakpoint
ALTER TABLE "prices" ADD COLUMN "client_id" text;--> statement-breakpoint
ALTER TABLE "prices" ADD COLUMN "inherits" boolean DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE "calls" ADD COLUMN "overrides" jsonb;--> statement-breakpoint
ALTER TABLE "calls" ADD COLUMN "duration_seconds" integer;--> statement-breakpoint
ALTER TABLE "calls" ADD COLUMN "recording_status" text DEFAULT 'none' NOT NULL;--> statement-breakpoint
ALTER TABLE "calls" ADD COLUMN "recording_key" text;--> statement-breakpoint
ALTER TABLE "calls" ADD COLUMN "recording_bytes" bigint;--> statement-breakpoint
ALTER TABLE "calls" ADD COLUMN "transcript_status" text DEFAULT 'pending' NOT NULL;--> statement-breakpoint
ALTER TABLE "calls" ADD COLUMN "output" jsonb;--> statement-breakpoint
ALTER TABLE "calls" ADD COLUMN "output_status" text DEFAULT 'none' NOT NULL;--> statement-breakpoint
ALTER TABLE "calls" ADD COLUMN "output_problems" jsonb;--> statement-breakpoint
ALTER TABLE "calls" ADD COLUMN "final_state" jsonb;--> statement-breakpoint
ALTER TABLE "calls" ADD COLUMN "transcript_until" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "calls" ADD COLUMN "recording_until" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "calls" ADD COLUMN "erased_at" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "calls" ADD COLUMN "hang_up_when_joined" boolean DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE "api_keys" ADD COLUMN "replaced_by" text;--> statement-breakpoint
ALTER TABLE "clients" ADD COLUMN "suspended_reason" text;--> statement-breakpoint
ALTER TABLE "clients" ADD COLUMN "suspended_at" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "clients" ADD COLUMN "timezone" text DEFAULT 'UTC' NOT NULL;--> statement-breakpoint
ALTER TABLE "clients" ADD COLUMN "metadata" jsonb DEFAULT '{}'::jsonb NOT NULL;--> statement-breakpoint
ALTER TABLE "clients" ADD COLUMN "updated_at" timestamp with time zone DEFAULT clock_timestamp() NOT NULL;--> statement-breakpoint
ALTER TABLE "agent_uses" ADD CONSTRAINT "agent_uses_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "agent_uses" ADD CONSTRAINT "agent_uses_client_id_agent_id_agents_client_id_id_fk" FOREIGN KEY ("client_id","agent_id") REFERENCES "public"."agents"("client_id","id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "call_pairs" ADD CONSTRAINT "call_pairs_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "call_pairs" ADD CONSTRAINT "call_pairs_client_id_call_id_calls_client_id_id_fk" FOREIGN KEY ("client_id","call_id") REFERENCES "public"."calls"("client_id","id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "call_words" ADD CONSTRAINT "call_words_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "call_words" ADD CONSTRAINT "call_words_client_id_call_id_calls_client_id_id_fk" FOREIGN KEY ("client_id","call_id") REFERENCES "public"."calls"("client_id","id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "invitations" ADD CONSTRAINT "invitations_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "invitations" ADD CONSTRAINT "invitations_role_roles_name_fk" FOREIGN KEY ("role") REFERENCES "public"."roles"("name") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "credentials" ADD CONSTRAINT "credentials_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "provider_accounts" ADD CONSTRAINT "provider_accounts_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "uploads" ADD CONSTRAINT "uploads_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "knowledge_bases" ADD CONSTRAINT "knowledge_bases_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "knowledge_files" ADD CONSTRAINT "knowledge_files_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "knowledge_files" ADD CONSTRAINT "knowledge_files_client_id_knowledge_base_id_knowledge_bases_client_id_id_fk" FOREIGN KEY ("client_id","knowledge_base_id") REFERENCES "public"."knowledge_bases"("client_id","id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
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
CREATE INDEX "call_pairs_client_id_call_id_index" ON "call_pairs" USING btree ("client_id","call_id");--> statement-breakpoint
CREATE INDEX "call_words_client_id_call_id_index" ON "call_words" USING btree ("client_id","call_id");--> statement-breakpoint
CREATE INDEX "provider_accounts_by_id" ON "provider_accounts" USING btree ("id");--> statement-breakpoint
CREATE UNIQUE INDEX "provider_accounts_one_active" ON "provider_accounts" USING btree ("client_id") WHERE status = 'active';--> statement-breakpoint
CREATE UNIQUE INDEX "provider_accounts_one_owner" ON "provider_accounts" USING btree ("provider_name") WHERE status = 'active';--> statement-breakpoint
CREATE INDEX "uploads_stale" ON "uploads" USING btree ("expires_at") WHERE status in ('pending', 'verified');--> statement-breakpoint
CREATE INDEX "knowledge_files_client_id_knowledge_base_id_id_index" ON "knowledge_files" USING btree ("client_id","knowledge_base_id","id");--> statement-breakpoint
CREATE INDEX "knowledge_files_open" ON "knowledge_files" USING btree ("deadline_at") WHERE status in ('pending', 'ingesting');--> statement-breakpoint
CREATE UNIQUE INDEX "inbound_routes_one_owner" ON "inbound_routes" USING btree ("provider_account_id","pattern");--> statement-breakpoint
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
ALTER TABLE "prices" ADD CONSTRAINT "prices_client_id_clients_id_fk" FOREIGN KEY ("client_id") REFERENCES "public"."clients"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "agents_provider" ON "agents" USING btree ("provider_account_id","provider_agent_id");--> statement-breakpoint
CREATE INDEX "agents_compare" ON "agents" USING btree ("compared_at") WHERE status = 'active';--> statement-breakpoint
CREATE INDEX "prices_client_id_effective_from_index" ON "prices" USING btree ("client_id","effective_from");--> statement-breakpoint
CREATE INDEX "calls_client_id_outcome_id_index" ON "calls" USING btree ("client_id","outcome","id");--> statement-breakpoint
CREATE INDEX "calls_client_id_direction_id_index" ON "calls" USING btree ("client_id","direction","id");--> statement-breakpoint
CREATE INDEX "calls_client_id_to_id_index" ON "calls" USING btree ("client_id","to","id");--> statement-breakpoint
CREATE INDEX "calls_client_id_from_id_index" ON "calls" USING btree ("client_id","from","id");--> statement-breakpoint
CREATE INDEX "calls_artifacts" ON "calls" USING btree ("ended_at") WHERE recording_status in ('pending', 'missing') or transcript_status in ('pending', 'missing');--> statement-breakpoint
CREATE INDEX "calls_retention_transcript" ON "calls" USING btree ("transcript_until") WHERE transcript_until is not null;--> statement-breakpoint
CREATE INDEX "calls_retention_recording" ON "calls" USING btree ("recording_until") WHERE recording_until is not null;--> statement-breakpoint
CREATE INDEX "calls_duration" ON "calls" USING btree ("client_id","id","duration_seconds");--> statement-breakpoint
CREATE INDEX "calls_recorded" ON "calls" USING btree ("client_id","id") WHERE recording_status = 'ready';--> statement-breakpoint
CREATE INDEX "calls_unrecorded" ON "calls" USING btree ("client_id","id") WHERE recording_status <> 'ready';--> statement-breakpoint
CREATE UNIQUE INDEX "calls_provider" ON "calls" USING btree ("provider_account_id","provider_call_id");--> statement-breakpoint
CREATE INDEX "calls_by_id" ON "calls" USING hash ("id");--> statement-breakpoint
CREATE POLICY "house" ON "agents" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_changes" ON "clients" AS PERMISSIVE FOR UPDATE TO "patchbay_tenant" USING ("clients"."id" = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK ("clients"."id" = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "own_rows" ON "agent_uses" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "own_rows" ON "call_pairs" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "own_rows" ON "call_words" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "own_rows" ON "invitations" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "house" ON "invitations" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "credentials" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "own_rows" ON "provider_accounts" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "house" ON "provider_accounts" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "uploads" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "house" ON "uploads" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "knowledge_bases" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "house" ON "knowledge_bases" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "knowledge_files" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "house" ON "knowledge_files" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "inbound_routes" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "house" ON "inbound_routes" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "sip_registrations" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "house" ON "sip_registrations" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "telephony_configs" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "house" ON "telephony_configs" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "tools" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "own_rows" ON "voices" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "house" ON "voices" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "workflow_runs" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "house" ON "workflow_runs" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
CREATE POLICY "own_rows" ON "workflow_steps" AS PERMISSIVE FOR ALL TO "patchbay_tenant" USING (client_id = (select nullif(current_setting('app.client_id', true), ''))) WITH CHECK (client_id = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
CREATE POLICY "house" ON "workflow_steps" AS PERMISSIVE FOR ALL TO "patchbay_system" USING (true) WITH CHECK (true);--> statement-breakpoint
ALTER POLICY "everyone_reads" ON "prices" TO patchbay_tenant USING ("prices"."client_id" is null or "prices"."client_id" = (select nullif(current_setting('app.client_id', true), '')));--> statement-breakpoint
ALTER POLICY "own_row" ON "users" TO patchbay_tenant USING ("users"."id" = (select nullif(current_setting('app.user_id', true), '')) or exists (select from memberships m where m.user_id = "users"."id" and m.client_id = (select nullif(current_setting('app.client_id', true), ''))));