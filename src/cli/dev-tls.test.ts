/** `concierge dev` with the certificates of `concierge certs`, and the commands that call it: all of it over TLS. */
import assert from "node:assert/strict";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ExitCode } from "../errors.ts";
import { runCommand, runHere, startCommand } from "../testing/command.ts";

const LIST_ROLES = "concierge.access.v1.AccessInternalService/ListRoles";
const FREE_PORTS = { CONCIERGE_PUBLIC_PORT: "0", CONCIERGE_INTERNAL_PORT: "0" };

test("a system over TLS: called by whoever trusts its authority, and by nobody else; never in the clear", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "concierge-dev-tls-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  // PostgreSQL refuses to run as root, so for root it runs as another account, which must get in.
  await chmod(folder, 0o755);
  const { stdout: exported } = await runHere(["certs", "--tls", join(folder, "tls")]);
  const tls = Object.fromEntries(
    Array.from(exported.matchAll(/^export (\w+)=(.+)$/gm), ([, name, path]) => [name, path]),
  );
  const { CONCIERGE_PEER_CA_PATH: ca, ...withoutAuthority } = { ...FREE_PORTS, ...tls };

  const distrusting = await runCommand(["dev", "--folder", folder], withoutAuthority);
  assert.equal(distrusting.code, ExitCode.failure);
  assert.match(distrusting.stderr, /^concierge: the certificate of https:\S+ is not trusted .*CONCIERGE_PEER_CA_PATH/m);

  await using dev = startCommand(["dev", "--folder", folder], { ...withoutAuthority, CONCIERGE_PEER_CA_PATH: ca });
  const [welcome] = await dev.printed(/^Concierge is running[\s\S]*Ctrl-C stops it/m);
  assert.equal(welcome.split(`buf curl --cacert ${ca} `).length, 5);
  assert.equal(welcome.split(`token --folder ${folder} --ca ${ca}`).length, 4);
  const [, internalUrl] = /^ {2}internal +(https:\S+)$/m.exec(welcome)!;

  const commands = [["token"], ["call", LIST_ROLES], ["greet"]];
  for (const command of commands.map((words) => [...words, "--folder", folder])) {
    const trusting = await runHere([...command, "--ca", ca!]);
    assert.equal(trusting.code, ExitCode.ok, trusting.stdout + trusting.stderr);
    const { code, stdout, stderr } = await runHere(command);
    assert.deepEqual({ code, stdout }, { code: ExitCode.failure, stdout: "" });
    assert.match(stderr, /^concierge: the certificate of https:\S+ is not trusted \(UNABLE_TO_VERIFY_LEAF_SIGNATURE\)/);
    assert.equal((await runHere([...command, "--ca", join(folder, "absent")])).code, ExitCode.usage);
  }
  const inTheClear = ["--url", internalUrl!.replace("https", "http"), "--ca", ca!];
  const refused = await runHere(["call", LIST_ROLES, "--folder", folder, ...inTheClear]);
  assert.deepEqual([refused.code, refused.stderr], [ExitCode.usage, "concierge: --ca is for an https URL\n"]);

  dev.kill("SIGTERM");
  assert.equal((await dev.ended()).code, ExitCode.ok);
});
