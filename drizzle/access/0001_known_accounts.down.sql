DROP TABLE "known_accounts";
