/** Hashes that were not made here, or not with today's parameters, or that nobody can read. */
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import bcrypt from "bcrypt";
import type { Sql } from "postgres";
import { AuthInternalService, AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { connect } from "../../db/connection.ts";
import { reasonOf } from "../../errors.ts";
import { argon2Calls, bcryptCalls, holdHashes } from "../../testing/native-hashes.ts";
import type { TestSystem } from "../../testing/system.ts";
import { until } from "../../testing/until.ts";

// Only now, as native-hashes.ts wants it.
const { formOf, fitsHash, hashOfPassword } = await import("./password-hashes.ts");
const { startTestService } = await import("../../testing/system.ts");
const { auth } = await import("./service.ts");

/** Made by Apache's htpasswd -B. */
const OF_APACHE = {
  password: "Fine Påssword 1",
  hash: "$2y$05$LlQygfwzuGQSKTt4UXmNZO.Ar2A7tsTbwr8u4AAWc9r1inHU0VZIC",
};
/** Of 72 times "x", by the same. */
const OF_72_BYTES = "$2y$06$z5JzEbpLgPhSd8yWZRluBO9wK0sHNnIX9dz394lIt283ObG8kYOpe";
const UNREADABLE = [
  "",
  "nonsense",
  "$2b$10$tooshort",
  "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$",
  "$2b$31$".padEnd(60, "x"),
];

const rest = (length: number) => "./AZaz09".repeat(8).slice(0, length);
const argon2id = (parameters: string) =>
  `$argon2id$v=19$${parameters}$c29tZXNhbHRzb21lc2FsdA$${"AZ09+/az".repeat(5)}abc`;

for (const [form, hashes] of [
  ["argon2id", [argon2id("m=19456,t=2,p=1"), argon2id("m=47104,p=1,t=1"), argon2id("m=131072,t=10,p=8")]],
  ["bcrypt", [`$2a$04$${rest(53)}`, `$2b$14$${rest(53)}`, `$2y$10$${rest(53)}`]],
  [
    "too_costly",
    [`$2b$15$${rest(53)}`, `$2b$99$${rest(53)}`, argon2id("m=131073,t=2,p=1"), argon2id("m=8192,t=11,p=1")],
  ],
  [
    "unknown",
    [
      ...["", "secret", `$2x$10$${rest(53)}`, `$2b$03$${rest(53)}`, `$2b$10$${rest(52)}`, `$2b$10$${rest(54)}`],
      ...[`$2b$10$${rest(52)}=`, `$2b$10$${rest(53)}\n`, "5f4dcc3b5aa765d61d8327deb882cf99", `$1$salt$${rest(22)}`],
      ...[argon2id("m=7,t=1,p=1"), argon2id("m=8192,t=0,p=1"), argon2id("m=8192,t=2,t=2"), argon2id("m=8192,t=2")],
      ...[argon2id("m=19456,t=2,p=1").replace("id", "i"), argon2id("m=19456,t=2,p=1").replace("=19", "=16")],
    ],
  ],
] as const) {
  test(`S-PWD-06 hashes whose form is ${form}`, () => {
    for (const hash of hashes) assert.equal(formOf(hash), form, hash);
  });
}

test("S-PWD-06 bcrypt's three names are one", async () => {
  for (const name of ["$2a$", "$2b$", "$2y$"]) {
    const hash = OF_APACHE.hash.replace("$2y$", name);
    assert.equal(await fitsHash(hash, OF_APACHE.password), true, name);
    for (const other of ["Fine Passwort 1", "", `${OF_APACHE.password}\0`, `${OF_APACHE.password} `]) {
      assert.equal(await fitsHash(hash, other), false, JSON.stringify(other));
    }
  }
});

test("S-PWD-06 bcrypt fits nothing longer than 72 bytes, and works as long on it", async () => {
  const text = "x".repeat(72);
  assert.equal(await bcrypt.compare(`${text} and more`, OF_72_BYTES.replace("$2y", "$2b")), true, "as bcrypt has it");
  bcryptCalls.length = 0;
  assert.equal(await fitsHash(OF_72_BYTES, text), true);
  assert.equal(await fitsHash(OF_72_BYTES, `${text} and more`), false);
  assert.equal(await fitsHash(OF_72_BYTES, `${"x".repeat(71)}é`), false);
  assert.equal(bcryptCalls.length, 3);
});

describe("logins with foreign hashes", () => {
  let system: TestSystem;
  let owner: Sql;
  const login = (email: string, password: string) => system.asUser(AuthService).login({ email, password });
  const refused = (email: string, password: string) =>
    login(email, password).then(
      () => assert.fail("it was not refused"),
      (error: unknown) => assert.equal(reasonOf(error), "BAD_CREDENTIALS"),
    );
  const setHash = (userId: string, hash: string, versions = 0) =>
    owner`update credentials set password_hash = ${hash}, version = version + ${versions} where account_id = ${userId}`;
  const storedHash = async (userId: string): Promise<string> =>
    (await owner`select password_hash from credentials where account_id = ${userId}`)[0]!.password_hash;

  before(async () => {
    system = await startTestService(auth);
    await system.server.ready;
    owner = connect(system.database("auth").ownerUrl, { applicationName: "owner", max: 2 });
  });

  after(async () => {
    await owner.end();
    await system[Symbol.asyncDispose]();
  });

  beforeEach(() => {
    argon2Calls.length = 0;
    bcryptCalls.length = 0;
  });

  test("S-PWD-06 S-PWD-08 a bcrypt hash is verified once, and argon2id from then on", async () => {
    const { userId, email } = await system.newUser();
    await setHash(userId, OF_APACHE.hash);
    await refused(email, "not the password");
    assert.equal(await storedHash(userId), OF_APACHE.hash);
    await login(email, OF_APACHE.password.normalize("NFD"));
    const renewed = await storedHash(userId);
    assert.equal(formOf(renewed), "argon2id");
    bcryptCalls.length = 0;
    await login(email, OF_APACHE.password);
    assert.equal(await storedHash(userId), renewed, "and only once");
    assert.equal(bcryptCalls.length, 0);
    const actions = await owner`select 1 from audit_log where account_id = ${userId} and action = 'password_rehashed'`;
    assert.equal(actions.length, 1);
  });

  test("S-PWD-06 a bcrypt hash lets in nobody with more than 72 bytes", async () => {
    const { userId, email } = await system.newUser();
    await setHash(userId, OF_72_BYTES);
    await refused(email, `${"x".repeat(72)} and more`);
    assert.equal(await storedHash(userId), OF_72_BYTES);
    await login(email, "x".repeat(72));
    assert.equal(formOf(await storedHash(userId)), "argon2id");
    await refused(email, `${"x".repeat(72)} and more`);
  });

  test("S-REF-23 a bcrypt rehash that ends after the password was changed leaves the newer hash", async () => {
    const { userId, email } = await system.newUser();
    await setHash(userId, OF_APACHE.hash);
    const changed = await hashOfPassword("the new password");
    argon2Calls.length = 0;
    const release = holdHashes();
    const late = refused(email, OF_APACHE.password);
    await until("the new hash is being made", () => argon2Calls.length === 1);
    await setHash(userId, changed, 1);
    release();
    await late;
    assert.equal(await storedHash(userId), changed);
  });

  test("S-PWD-11 unknown, known, disabled, unreadable: one hash of equal cost and the same answer", async () => {
    const [known, disabled, unreadable] = [await system.newUser(), await system.newUser(), await system.newUser()];
    await system.asService(AuthInternalService, "operator", "auth").disableAccount({ userId: disabled.userId });
    const attempts: [email: string, password: string, hash?: string][] = [
      ["nobody@example.com", "not the password"],
      [known.email, "not the password"],
      [disabled.email, "not the password"],
      [disabled.email, disabled.password],
      ...UNREADABLE.map((hash): [string, string, string] => [unreadable.email, unreadable.password, hash]),
    ];
    for (const [email, password, hash] of attempts) {
      if (hash !== undefined) await setHash(unreadable.userId, hash);
      argon2Calls.length = 0;
      await refused(email, password);
      const costs = argon2Calls.map(({ m, t, p, hashLength, salt }) => [m, t, p, hashLength, salt.length]);
      assert.deepEqual(costs, [[19_456, 2, 1, 32, 16]], `${email} ${hash}`);
      assert.equal(bcryptCalls.length, 0);
    }
    const lines = system.logLines.filter(({ msg }) => String(msg).startsWith("a stored password hash cannot be used"));
    assert.equal(lines.length, 1);
    for (const hash of UNREADABLE) assert.ok(hash === "" || !JSON.stringify(system.logLines).includes(hash));
  });
});
