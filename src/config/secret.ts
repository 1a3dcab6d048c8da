/**
 * The kinds of secret variable. A type checks structure in every mode; `keyMaterial` hands out the bytes whose strength
 * and double use are checked in demo and production. No message here may contain any part of a value.
 */
import { z } from "zod";
import type { ServiceKey } from "../token/service-token.ts";
import { isSigningKey, type KeySet, type SetKey } from "../token/signing-keys.ts";
import { reachOf } from "./network.ts";
import { decodeHex } from "./strength.ts";
import type { KeyMaterial, Refusal, Variable } from "./variable.ts";

const minKeyBytes = 32;
const minPasswordBytes = 16;
/** Providers of mail hand out passwords of their own making. */
const minMailPasswordBytes = 8;

interface SecretOptions {
  optional?: boolean;
}
/** The value's type: undefined is possible only for a secret declared optional. */
type Value<T, O extends SecretOptions> = O extends { optional: true } ? T | undefined : T;

/** A base64url text without padding, in its one canonical spelling. */
function isBase64url(text: string) {
  return text !== "" && Buffer.from(text, "base64url").toString("base64url") === text;
}

/** JSON in text, or the same structure written in YAML. A parser's message would quote the input, so it is replaced. */
function json<T extends z.ZodType>(schema: T) {
  const parsed = z.unknown().transform((value, context) => {
    if (typeof value !== "string") return value;
    try {
      return JSON.parse(value) as unknown;
    } catch {
      context.addIssue({ code: "custom", message: "is not valid JSON" });
      return z.NEVER;
    }
  });
  return parsed.pipe(schema) as unknown as z.ZodType<z.output<T>>;
}

const namedKey = {
  kid: z.string("kid must be text").regex(/^[A-Za-z0-9._:/-]{1,128}$/, "kid must be 1 to 128 letters, digits or ._:/-"),
  secret: z
    .string("secret must be text")
    .refine(isBase64url, "secret must be base64url without padding")
    .refine(
      (secret) => Buffer.from(secret, "base64url").length >= minKeyBytes,
      `secret is shorter than ${minKeyBytes} bytes`,
    ),
};

const partyName = /^[a-z][a-z0-9-]{0,62}$/;
const serviceKey: z.ZodType<ServiceKey> = z.strictObject(
  {
    ...namedKey,
    caller: z.string("caller must be text").regex(partyName, "caller must be a name such as notification-sender"),
    callee: z.string("callee must be text").regex(partyName, "callee must be a name such as notification-sender"),
    kind: z.enum(["service", "backend", "operator"], "kind must be service, backend or operator"),
  },
  "must be an object with exactly kid, caller, callee, kind and secret",
);

/** `{keys: [...]}` of at least one key, all different in name and secret. */
function ringOf<T extends z.ZodType<NamedKey>>(key: T) {
  return z
    .strictObject({ keys: z.array(key, "must be {keys: [...]}").min(1, "has no key") }, "must be {keys: [...]}")
    .superRefine(({ keys }, context) => {
      const refuse = (message: string) => context.addIssue({ code: "custom", message });
      if (new Set(keys.map(({ kid }) => kid)).size < keys.length) refuse("uses one kid for two keys");
      if (new Set(keys.map(({ secret }) => secret)).size < keys.length) refuse("uses one secret for two keys");
    });
}

/** A symmetric key by name. */
interface NamedKey {
  kid: string;
  /** At least 32 bytes, base64url. */
  secret: string;
}
export interface KeyRing {
  keys: NamedKey[];
}

const serviceKeyRing = ringOf(serviceKey);
export type ServiceKeyRing = z.output<typeof serviceKeyRing>;
const namedKeyRing = ringOf(z.strictObject(namedKey, "must be an object with exactly kid and secret"));

const privateJwk = z
  .looseObject(
    {
      alg: z.enum(["ES256", "EdDSA", "RS256"], "alg must be ES256, EdDSA or RS256"),
      kid: z.string("kid must be text").min(1, "kid is empty").max(128, "kid is longer than 128 characters"),
      d: z.string("d (the private part) must be text"),
    },
    "must be a JSON Web Key",
  )
  .refine((jwk) => isSigningKey(jwk as unknown as SetKey), "is not a valid private key for its algorithm");
const privateJwks = z
  .looseObject({ keys: z.array(privateJwk, "must be {keys: [...]}").min(1, "has no key") }, "must be {keys: [...]}")
  .superRefine(({ keys }, context) => {
    const refuse = (message: string) => context.addIssue({ code: "custom", message });
    if (new Set(keys.map((key) => key.kid)).size < keys.length) refuse("uses one kid for two keys");
    if (new Set(keys.map((key) => key.d)).size < keys.length) refuse("uses one private key for two keys");
  });

/** The parts of a PostgreSQL URL that the rules need; undefined when it is none. Several hosts are allowed. */
function parseDatabaseUrl(text: string) {
  const authority = /^postgres(?:ql)?:\/\/([^/?#]*)/.exec(text)?.[1] ?? "";
  const hostList = authority.slice(authority.lastIndexOf("@") + 1);
  const hosts = hostList.split(",");
  try {
    const url = new URL(text.replace(`${hostList}/`, `${hosts[0]}/`));
    const user = decodeURIComponent(url.username);
    // The driver heeds the last of several, whoever reads the URL the first.
    const isPlain = url.searchParams.getAll("sslmode").length + url.searchParams.getAll("ssl").length <= 1;
    const isComplete =
      isPlain && user !== "" && url.hostname !== "" && url.pathname.length > 1 && hosts.every((host) => host !== "");
    if (!isComplete) return undefined;
    return {
      user,
      password: decodeURIComponent(url.password),
      hosts: hosts.map((host) => host.replace(/:\d+$/, "")),
      sslMode: url.searchParams.get("sslmode") ?? url.searchParams.get("ssl") ?? "disable",
    };
  } catch {
    return undefined;
  }
}

const databaseUrlType = z
  .string("must be text")
  .refine(
    (text) => parseDatabaseUrl(text) !== undefined,
    "must be a PostgreSQL URL: postgres://<user>:<password>@<host>:<port>/<database>, special characters escaped",
  );

/** `prefer` and `allow` fall back to cleartext without a word, so they do not count as TLS. */
const encryptingSslModes = ["require", "verify-ca", "verify-full", "true"];

function databaseRule(value: string | undefined): Refusal | string | undefined {
  const url = value === undefined ? undefined : parseDatabaseUrl(value);
  if (url === undefined) return undefined;
  if (url.password === "") return "has no password";
  if (url.password === url.user) return "has a password equal to the user name";
  if (encryptingSslModes.includes(url.sslMode)) return undefined;
  const reaches = url.hosts.map(reachOf);
  if (reaches.every((reach) => reach === "loopback")) return undefined;
  return {
    problem: "reaches another host without TLS (use sslmode=verify-full, verify-ca or require)",
    risk: "cleartextDatabase",
    allowedInDemo: !reaches.includes("elsewhere"),
  };
}

/** Two URLs of one role inside one service (pooled and direct) carry one credential; anything else is double use. */
function databasePassword(value: string | undefined, owner: { service: string }): KeyMaterial[] {
  const url = value === undefined ? undefined : parseDatabaseUrl(value);
  if (url === undefined || url.password === "") return [];
  const bytes = Buffer.from(url.password);
  const identity = `role ${url.user} of ${owner.service}`;
  return [{ part: "password", bytes, texts: [url.password], minBytes: minPasswordBytes, identity }];
}

/** The parts of an SMTP URL; undefined when it is none. A name without a password, and the reverse, are mistakes. */
function parseSmtpUrl(text: string) {
  try {
    const url = new URL(text);
    const isBare = url.pathname.length <= 1 && url.search === "" && url.hash === "";
    if (!/^smtps?:$/.test(url.protocol) || url.hostname === "" || !isBare) return undefined;
    const [user, password] = [decodeURIComponent(url.username), decodeURIComponent(url.password)];
    return (user === "") === (password === "") ? { user, password } : undefined;
  } catch {
    return undefined;
  }
}

const smtpUrlType = z
  .string("must be text")
  .refine(
    (text) => parseSmtpUrl(text) !== undefined,
    "must be smtps://<user>:<password>@<host>:<port> or smtp://..., special characters escaped, nothing after the port",
  );

function smtpPassword(value: string | undefined, owner: { name: string }): KeyMaterial[] {
  const url = value === undefined ? undefined : parseSmtpUrl(value);
  if (url === undefined || url.password === "") return [];
  const { password } = url;
  const texts = [password];
  return [
    { part: "password", bytes: Buffer.from(password), texts, minBytes: minMailPasswordBytes, identity: owner.name },
  ];
}

/** The same key stands in the rings of its caller and of its callee: that is no double use. */
function serviceKeyMaterial(ring: ServiceKeyRing | undefined): KeyMaterial[] {
  return (ring?.keys ?? []).map((key, index) => {
    const identity = `service key ${JSON.stringify([key.kid, key.caller, key.callee, key.kind])}`;
    return materialOf(key.secret, index, identity);
  });
}

function namedKeyMaterial(ring: KeyRing | undefined, owner: { name: string }): KeyMaterial[] {
  return (ring?.keys ?? []).map((key, index) => materialOf(key.secret, index, `${owner.name} ${key.kid}`));
}

function jwksMaterial(jwks: KeySet | undefined, owner: { name: string }): KeyMaterial[] {
  return (jwks?.keys ?? []).map((key, index) => materialOf(key.d ?? "", index, `${owner.name} ${key.kid}`));
}

function materialOf(secret: string, index: number, identity: string): KeyMaterial {
  const bytes = Buffer.from(secret, "base64url");
  const texts = [secret, bytes.toString("latin1")];
  return { part: `key ${index + 1}`, bytes, texts, minBytes: minKeyBytes, identity };
}

function textMaterial(text: string | undefined, owner: { name: string }): KeyMaterial[] {
  if (text === undefined) return [];
  return [
    { part: "", bytes: decodeHex(Buffer.from(text)), texts: [text], minBytes: minKeyBytes, identity: owner.name },
  ];
}

function passwordMaterial(text: string | undefined, owner: { name: string }): KeyMaterial[] {
  if (text === undefined) return [];
  return [{ part: "", bytes: Buffer.from(text), texts: [text], minBytes: minPasswordBytes, identity: owner.name }];
}

function declare<T, O extends SecretOptions>(variable: Variable<T>, options?: O): Variable<Value<T, O>> {
  if (!options?.optional) return variable as Variable<Value<T, O>>;
  return { ...variable, type: variable.type.optional() } as unknown as Variable<Value<T, O>>;
}

/** Declares secret variables, one constructor for each kind. All take `{ optional: true }`. */
export const secret = {
  /**
   * A PostgreSQL URL. Outside development its password is required and has at least 16 bytes: the driver knows no other
   * proof of identity from a URL. In production another host is reached with TLS only.
   */
  databaseUrl<O extends SecretOptions>(description: string, options?: O) {
    const variable: Variable<string> = {
      type: databaseUrlType,
      description,
      secret: "databaseUrl",
      production: databaseRule,
      keyMaterial: databasePassword,
    };
    return declare(variable, options);
  },

  /** A ring of HMAC keys for service tokens, as JSON `{"keys": [{kid, caller, callee, kind, secret}]}`. */
  serviceKeys<O extends SecretOptions>(description: string, options?: O) {
    const type = json(serviceKeyRing);
    const variable: Variable<ServiceKeyRing> = {
      type,
      description,
      secret: "serviceKeys",
      keyMaterial: serviceKeyMaterial,
    };
    return declare(variable, options);
  },

  /** A ring of symmetric keys, as JSON `{"keys": [{kid, secret}]}`. */
  keys<O extends SecretOptions>(description: string, options?: O) {
    const type = json(namedKeyRing);
    const variable: Variable<KeyRing> = { type, description, secret: "keys", keyMaterial: namedKeyMaterial };
    return declare(variable, options);
  },

  /** A JSON Web Key Set of private signing keys: ES256, EdDSA (Ed25519) or RS256. */
  jwks<O extends SecretOptions>(description: string, options?: O) {
    const type = json(privateJwks) as unknown as z.ZodType<KeySet>;
    const variable: Variable<KeySet> = { type, description, secret: "jwks", keyMaterial: jwksMaterial };
    return declare(variable, options);
  },

  /** The URL of a mail server. */
  smtpUrl<O extends SecretOptions>(description: string, options?: O) {
    const variable: Variable<string> = { type: smtpUrlType, description, secret: "smtpUrl", keyMaterial: smtpPassword };
    return declare(variable, options);
  },

  /** A password that we have at somebody else's, at least 16 bytes. */
  password<O extends SecretOptions>(description: string, options?: O) {
    const variable: Variable<string> = {
      type: z.string("must be text").min(1, "is empty"),
      description,
      secret: "password",
      keyMaterial: passwordMaterial,
    };
    return declare(variable, options);
  },

  /** A text used as key material, at least 32 bytes; hexadecimal text counts as the bytes it encodes. */
  text<O extends SecretOptions>(description: string, options?: O) {
    const variable: Variable<string> = {
      type: z.string("must be text"),
      description,
      secret: "text",
      keyMaterial: textMaterial,
    };
    return declare(variable, options);
  },

  /** Any other JSON secret. `keys` names the texts in it that are key material, e.g. a service account's private key. */
  json<T extends z.ZodType, O extends SecretOptions>(
    schema: T,
    description: string,
    keys: (value: z.output<T>) => string[],
    options?: O,
  ) {
    const variable: Variable<z.output<T>> = {
      type: json(schema),
      description,
      secret: "json",
      keyMaterial: (value, owner) =>
        value === undefined ? [] : keys(value).flatMap((text) => textMaterial(text, owner)),
    };
    return declare(variable, options);
  },
};
