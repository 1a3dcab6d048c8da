/**
 * Watches the native functions of argon2 and bcrypt, and can hold them, so that a test can count hashes and act while one is under
 * way; what they compute is real. argon2 takes its function when it is loaded: import this before whatever loads that.
 */
import { createRequire } from "node:module";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";

export interface Argon2Call {
  m: number;
  t: number;
  p: number;
  hashLength: number;
  password: Buffer;
  salt: Buffer;
}

type Compare = (password: string, hash: string, done: (error: Error | undefined, fits: boolean) => void) => void;

/** Calls so far; a test may empty them. */
export const argon2Calls: Argon2Call[] = [];
/** The hashes that passwords were compared with. */
export const bcryptCalls: string[] = [];

let held: Promise<void> | undefined;

/** Lets every argon2 hash from now on wait for this, and fail with it; undefined ends that. */
export function holdHashesUntil(event: Promise<void> | undefined): void {
  held = event;
}

/** Holds every argon2 hash from now on until what it returns is called. */
export function holdHashes(): () => void {
  const { promise, resolve } = Promise.withResolvers<void>();
  held = promise;
  return () => {
    held = undefined;
    resolve();
  };
}

/** Whether a test has left hashes held. */
export function areHashesHeld(): boolean {
  return held !== undefined;
}

const argon2 = nativePartOf("argon2") as { hash(call: Argon2Call): Promise<Buffer> };
const { hash } = argon2;
argon2.hash = async (call) => {
  argon2Calls.push(call);
  await held;
  return hash(call);
};

const bcrypt = nativePartOf("bcrypt") as { compare: Compare };
const { compare } = bcrypt;
bcrypt.compare = (password, passwordHash, done) => {
  bcryptCalls.push(passwordHash);
  compare(password, passwordHash, done);
};

function nativePartOf(name: string): unknown {
  const file = fileURLToPath(import.meta.resolve(name));
  return createRequire(file)("node-gyp-build")(dirname(file));
}
