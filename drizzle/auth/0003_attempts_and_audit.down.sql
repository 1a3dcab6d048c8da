DROP FUNCTION audit_trim(integer, integer);
--> statement-breakpoint
DROP FUNCTION audit_chain_extend(integer);
--> statement-breakpoint
DROP FUNCTION audit_link(bytea, audit_log);
--> statement-breakpoint
COMMENT ON TABLE audit_log IS NULL;
--> statement-breakpoint
DROP INDEX "sessions_expired";
--> statement-breakpoint
DROP TABLE "device_tokens";
--> statement-breakpoint
DROP TABLE "audit_chain";
--> statement-breakpoint
DROP TABLE "attempt_buckets";
