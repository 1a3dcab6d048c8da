/** People whose hashes another program has made: they are imported and log in, once with its hash and then with ours. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { connect } from "../../src/db/connection.ts";
import { ExitCode, reasonOf } from "../../src/errors.ts";
import { auth } from "../../src/services/auth/service.ts";
import { runHere } from "../../src/testing/command.ts";
import { startTestService } from "../../src/testing/system.ts";
import { writeSecret } from "../../src/token/key-folder.ts";

const HTPASSWD = process.env.CONCIERGE_TEST_HTPASSWD!;
const PASSWORDS: [password: string, cost: number][] = [
  ["football", 4],
  ["correct horse battery staple", 5],
  ["Zoë Åström 한국 😀", 10],
  [`"quotes" $2y$ \\ and a\ttab`, 12],
  ["x".repeat(72), 6],
];

function bcryptOf(password: string, cost: number): string {
  const { status, stdout } = spawnSync(HTPASSWD, ["-n", "-i", "-B", "-C", String(cost), "somebody"], {
    input: password,
  });
  assert.equal(status, 0);
  return String(stdout).trim().replace("somebody:", "");
}

test("S-PWD-06 people with hashes of htpasswd are imported, log in, and get a hash of ours", async () => {
  await using system = await startTestService(auth);
  await system.server.ready;
  const folder = await mkdtemp(join(tmpdir(), "concierge-htpasswd-"));
  const owner = connect(system.database("auth").ownerUrl, { applicationName: "owner" });
  try {
    const people = PASSWORDS.map(([password, cost], index) => {
      return { email: `person-${index}@example.com`, password, hash: bcryptOf(password, cost) };
    });
    const file = join(folder, "people.jsonl");
    await writeFile(
      file,
      people.map(({ email, hash }) => `${JSON.stringify({ email, password_hash: hash })}\n`).join(""),
    );
    await writeSecret(join(folder, "operator.json"), { keys: [system.keyOf("operator", "auth")] });
    const { code, stdout } = await runHere(["users", "import", file, "--keys", folder, "--url", system.internalUrl]);
    assert.deepEqual([code, stdout], [ExitCode.ok, "5 lines: 5 imported, 0 already there, 0 refused\n"]);
    const login = (email: string, password: string) => system.asUser(AuthService).login({ email, password });
    for (const { email, password } of people) {
      const refused = await login(email, `${password}!`).catch(reasonOf);
      assert.equal(refused, "BAD_CREDENTIALS", email);
      for (let round = 0; round < 2; round++) await login(email, password);
    }
    const hashes = await owner`select password_hash from credentials`;
    for (const { password_hash: hash } of hashes) assert.match(hash, /^\$argon2id\$/);
  } finally {
    await owner.end();
    await rm(folder, { recursive: true, force: true });
  }
});
