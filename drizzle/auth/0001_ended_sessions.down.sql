DROP INDEX "sessions_ended";
