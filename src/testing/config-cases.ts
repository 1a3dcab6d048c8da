/** A configuration of a test's own: services with variables of every kind, environments that start them, and what is wrong. */
import assert from "node:assert/strict";
import { z } from "zod";
import {
  type ConfigShape,
  list,
  loadConfig,
  notInProduction,
  peerUrl,
  secret,
  secretVariables,
  setting,
} from "../config.ts";
import { StartupError } from "../errors.ts";
import { type GeneratedKind, strongSecret } from "./secret-cases.ts";

const auth = {
  databaseUrl: secret.databaseUrl("PostgreSQL URL of the run-time role"),
  accessTokenSeconds: setting(z.coerce.number().int().min(1).max(3600).default(300), "Life of an access token"),
  signingKeys: secret.jwks("Keys that sign access tokens"),
  serviceKeys: secret.serviceKeys("Keys of service tokens"),
  audiences: setting(list.default(["concierge"]), "Audiences that a login may ask for"),
  rateLimit: setting(z.stringbool().default(true), "Whether calls are limited"),
} satisfies ConfigShape;

const notification = {
  databaseUrl: secret.databaseUrl("PostgreSQL URL of the run-time role"),
  pageSize: setting(z.coerce.number().int().default(50), "Entries on a page"),
} satisfies ConfigShape;

const sender = {
  pollSeconds: setting(z.coerce.number().int().positive().default(5), "Pause between polls"),
  cursorKey: secret.text("Key that signs cursors"),
  authUrl: peerUrl("Internal listener of auth", { default: "http://127.0.0.1:50051" }),
  pushEndpoint: setting(z.url().optional(), "Push stand-in", {
    production: notInProduction("the push stand-in delivers nothing", { allowedInDemo: true }),
  }),
  testClock: setting(z.stringbool().default(false), "Settable clock", { production: notInProduction("a test clock") }),
  account: secret.json(z.object({ key: z.string("key must be text") }), "Service account", (v) => [v.key], {
    optional: true,
  }),
} satisfies ConfigShape;

/** Services that nobody has, with variables of every kind. */
export const services = { auth, notification, "notification-sender": sender };
export type Env = Record<string, string | undefined>;
export type Files = Record<string, string | { text: string; mode: number }>;

/** Loads what these services need from an environment and files in memory. */
export function load<N extends keyof typeof services>(start: N[], env: Env, files: Files = {}) {
  const file = (path: string) => {
    const entry = files[path];
    if (entry === undefined) throw Object.assign(new Error(`ENOENT: no such file ${path}`), { code: "ENOENT" });
    return typeof entry === "string" ? { text: entry, mode: 0o100600 } : entry;
  };
  return loadConfig({ env, services, start, readFile: (path) => file(path).text, stat: (path) => file(path) });
}

export const everything = ["auth", "notification", "notification-sender"] as (keyof typeof services)[];

/** An environment that starts everything, with strong secrets. */
export function goodEnv(mode: string): Env {
  const secrets = secretVariables(services).filter(({ variable }) => variable.secret !== "json");
  const values = secrets.map(({ name, variable }) => [name, strongSecret(variable.secret as GeneratedKind)]);
  return { CONCIERGE_MODE: mode, ...Object.fromEntries(values) };
}

/** The problem lines of a refused start. */
export function problemsOf(run: () => unknown): string[] {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof StartupError, String(error));
    assert.equal(error.exitCode, 78);
    return error.message
      .split("\n")
      .slice(1)
      .map((line) => line.trim());
  }
  return [];
}
