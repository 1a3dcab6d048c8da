import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { ExitCode } from "../errors.ts";
import { strongSecret } from "../testing/secret-cases.ts";
import { createServiceKey } from "../token/key-making.ts";

const MAIN_FILE = fileURLToPath(new URL("../main.ts", import.meta.url));
const TIMEOUT_MS = 60_000;

/** Runs `concierge serve` as a process until it ends, which here it does by refusing to start. */
function serve(names: string[], variables: Record<string, string>) {
  return new Promise<{ code: number | null; output: string }>((resolve) => {
    const child = execFile(
      process.execPath,
      [MAIN_FILE, "serve", ...names],
      { env: { ...variables, CONCIERGE_PUBLIC_PORT: "0", CONCIERGE_INTERNAL_PORT: "0" }, timeout: TIMEOUT_MS },
      (_, stdout, stderr) => resolve({ code: child.exitCode, output: `${stdout}${stderr}` }),
    );
  });
}

const ring = (...keys: object[]) => JSON.stringify({ keys });

const goodVariables = (mode: string) => ({
  CONCIERGE_MODE: mode,
  CONCIERGE_AUTH_SIGNING_KEYS: strongSecret("jwks"),
  CONCIERGE_AUTH_TOKEN_KEYS: strongSecret("keys"),
  CONCIERGE_AUTH_DATABASE_URL: strongSecret("databaseUrl"),
  CONCIERGE_ACCESS_DATABASE_URL: strongSecret("databaseUrl"),
  CONCIERGE_ACCESS_DATABASE_JOB_URL: strongSecret("databaseUrl"),
  CONCIERGE_USER_DATABASE_URL: strongSecret("databaseUrl"),
});

describe("concierge serve", { concurrency: true }, () => {
  const toAuth = createServiceKey("user", "auth", "service");
  const toAccess = createServiceKey("user", "access", "service");
  const short = { ...toAuth, secret: randomBytes(31).toString("base64url") };

  test("S-HMAC-17 development: short or doubled keys stop the process before it listens", async () => {
    const { code, output } = await serve(["auth", "access", "user"], {
      ...goodVariables("development"),
      CONCIERGE_AUTH_SERVICE_KEYS: ring(short),
      CONCIERGE_ACCESS_SERVICE_KEYS: ring(toAccess, { ...toAccess, kid: "another" }),
      CONCIERGE_USER_SERVICE_KEYS: ring(toAuth, { ...toAccess, kid: toAuth.kid }),
    });
    assertRefused(code, output, [
      "CONCIERGE_AUTH_SERVICE_KEYS, entry 1: secret is shorter than 32 bytes",
      "CONCIERGE_ACCESS_SERVICE_KEYS: uses one secret for two keys",
      "CONCIERGE_USER_SERVICE_KEYS: uses one kid for two keys",
    ]);
  });

  test("S-HMAC-17 production: short keys, or one secret for the pairs of two services, stop the process", async () => {
    const { code, output } = await serve(["auth", "access", "user"], {
      ...goodVariables("production"),
      CONCIERGE_AUTH_SERVICE_KEYS: ring(toAuth),
      CONCIERGE_ACCESS_SERVICE_KEYS: ring({ ...toAccess, secret: toAuth.secret }),
      CONCIERGE_USER_SERVICE_KEYS: ring(short),
    });
    assertRefused(code, output, [
      "CONCIERGE_ACCESS_SERVICE_KEYS uses the same secret as CONCIERGE_AUTH_SERVICE_KEYS",
      "CONCIERGE_USER_SERVICE_KEYS, entry 1: secret is shorter than 32 bytes",
    ]);
  });

  function assertRefused(code: number | null, output: string, problems: string[]): void {
    assert.equal(code, ExitCode.config, output);
    const [head, ...lines] = output.trimEnd().split("\n");
    assert.equal(head, `concierge: configuration refused, ${problems.length} problems:`);
    assert.deepEqual(lines.map((line) => line.trim()).toSorted(), problems.toSorted());
    for (const { secret } of [toAuth, toAccess, short]) assert.ok(!output.includes(secret));
  }
});
