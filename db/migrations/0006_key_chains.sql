-- A rotated key goes on with the idempotency keys of the first key of its chain.
ALTER TABLE "api_keys" ADD COLUMN "root_id" text;--> statement-breakpoint
ALTER TABLE "intents" ADD COLUMN "idempotency_owner" text;--> statement-breakpoint
-- The owner of the tables sees no rows of clients while the policies are forced on it too.
ALTER TABLE "api_keys" NO FORCE ROW LEVEL SECURITY;--> statement-breakpoint
WITH RECURSIVE chain AS (
	SELECT "client_id", "id" AS "root_id", "replaced_by" AS "id" FROM "api_keys" k
	WHERE "replaced_by" IS NOT NULL
		AND NOT EXISTS (SELECT FROM "api_keys" p WHERE p."client_id" = k."client_id" AND p."replaced_by" = k."id")
	UNION ALL
	SELECT chain."client_id", chain."root_id", k."replaced_by" FROM chain
	JOIN "api_keys" k ON k."client_id" = chain."client_id" AND k."id" = chain."id" WHERE k."replaced_by" IS NOT NULL
)
UPDATE "api_keys" k SET "root_id" = chain."root_id" FROM chain
WHERE k."client_id" = chain."client_id" AND k."id" = chain."id";--> statement-breakpoint
ALTER TABLE "api_keys" FORCE ROW LEVEL SECURITY;
