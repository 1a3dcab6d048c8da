import assert from "node:assert/strict";
import { chmod, chown, mkdir, mkdtemp, rm, stat, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { openOwnFolder } from "./own-folder.ts";

const NOBODY = 65_534;
const uid = process.getuid!();

async function newFolder() {
  const path = await mkdtemp(join(tmpdir(), "concierge-own-"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

test("a kept folder is its user's only, and the same the next time", async () => {
  await using parent = await newFolder();
  const path = await openOwnFolder("kept", parent.path);
  assert.equal((await stat(path!)).mode & 0o777, 0o700);
  await chmod(path!, 0o777);
  assert.equal(await openOwnFolder("kept", parent.path), path);
  assert.equal((await stat(path!)).mode & 0o777, 0o700);
});

test("what somebody else has put there under its name is left alone", async (context) => {
  await using parent = await newFolder();
  await symlink(parent.path, join(parent.path, `linked-${uid}`));
  assert.equal(await openOwnFolder("linked", parent.path), undefined);
  assert.equal(await openOwnFolder("x", join(parent.path, "nowhere")), undefined);
  if (uid !== 0) return context.skip("only root can make a folder of somebody else");
  const foreign = join(parent.path, `foreign-${uid}`);
  await mkdir(foreign, { mode: 0o777 });
  await chown(foreign, NOBODY, NOBODY);
  assert.equal(await openOwnFolder("foreign", parent.path), undefined);
});
