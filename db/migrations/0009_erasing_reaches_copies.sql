ALTER TABLE "idempotency_keys" ADD COLUMN "subject_id" text;--> statement-breakpoint
CREATE INDEX "idempotency_keys_subject" ON "idempotency_keys" USING btree ("client_id","subject_id") WHERE subject_id is not null;--> statement-breakpoint
CREATE INDEX "ingress_events_subject" ON "ingress_events" USING btree ("subject_id") WHERE subject_id is not null;
