/**
 * The variables of Redis, in every process: without a URL there is no Redis, and nothing of it is loaded. Whoever
 * reaches it unasked could empty or fill everybody's limits, so production wants a password, and TLS towards another
 * host.
 */
import { z } from "zod";
import { reachOf } from "./network.ts";
import { type KeyMaterial, type Refusal, setting, type Variable } from "./variable.ts";

const MIN_PASSWORD_BYTES = 16;

/** Undefined when it is no URL of Redis. Settings of the driver in the query are not for operators to know. */
function parse(text: string): URL | undefined {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isBare = url && url.hostname !== "" && /^(\/\d*)?$/.test(url.pathname) && url.search === "" && url.hash === "";
  if (!isBare || !/^rediss?:$/.test(url.protocol) || passwordOf(url) === undefined) return undefined;
  return url;
}

/** Undefined when it is not escaped as in URLs. */
function passwordOf(url: URL): string | undefined {
  try {
    return decodeURIComponent(url.password);
  } catch {
    return undefined;
  }
}

function protectedServer(text: string | undefined): Refusal | string | undefined {
  const url = text === undefined ? undefined : parse(text);
  if (!url) return undefined;
  if (url.password === "") return "has no password";
  const reach = reachOf(url.hostname);
  if (url.protocol === "rediss:" || reach === "loopback") return undefined;
  return {
    problem: "reaches another host without TLS (use rediss)",
    risk: "cleartextPeers",
    allowedInDemo: reach === "network",
  };
}

function passwordMaterial(text: string | undefined, { name }: { name: string }): KeyMaterial[] {
  const url = text === undefined ? undefined : parse(text);
  const password = url && passwordOf(url);
  if (!password) return [];
  const bytes = Buffer.from(password);
  return [{ part: "password", bytes, texts: [password], minBytes: MIN_PASSWORD_BYTES, identity: name }];
}

const redisUrl: Variable<string | undefined> = {
  type: z
    .string("must be text")
    .refine(
      (text) => parse(text) !== undefined,
      "must be rediss://:<password>@<host>:<port> or redis://..., special characters escaped, or with /<number>",
    )
    .optional(),
  description:
    "Redis that replicas share limits and rights by, rediss://:<password>@<host>:<port>; not set: each has its own",
  secret: "redisUrl",
  production: protectedServer,
  keyMaterial: passwordMaterial,
};

export const redisSettings = {
  redisUrl,
  redisCaPath: setting(
    z.string().min(1).optional(),
    "PEM file with the authorities that certify Redis, instead of the well-known ones",
  ),
};
