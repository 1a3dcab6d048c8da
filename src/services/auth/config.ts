/** Every variable of auth. */
import { z } from "zod";
import { linkUrl, list, peerUrl, secret, setting } from "../../config.ts";
import { databaseConfig, rightsPeersConfig, serviceKeysConfig } from "../../service.ts";

const limitless = { problem: "must not be 0: anybody could try passwords without end", allowedInDemo: true };
const PAIR = /^[^=\s]+=[^=\s]+$/;
const seconds = z.coerce.number().int().min(1);

export const config = {
  ...databaseConfig,
  ...serviceKeysConfig,
  ...rightsPeersConfig,
  userUrl: peerUrl("URL of user's internal listener", { default: "http://127.0.0.1:50054" }),
  restPort: setting(
    z.coerce.number().int().min(0).max(65535).optional(),
    "Port of the REST listener; 0 picks a free one. Not set: 8001, or a free one where the public listener takes one",
  ),
  signingKeys: secret.jwks("Private keys of access tokens, a JSON Web Key Set whose first key signs"),
  tokenKeys: secret.keys("Keys that refresh tokens and mailed tokens are derived with; the first one makes new ones"),
  accessTokenSeconds: setting(seconds.max(3600).default(300), "Life of an access token, in seconds"),
  sessionSeconds: setting(seconds.default(30 * 86_400), "Longest life of a session, in seconds"),
  sessionIdleSeconds: setting(
    seconds.default(14 * 86_400),
    "A session that is not refreshed for so long has ended, in seconds",
  ),
  sessionsPerUser: setting(
    z.coerce.number().int().min(1).max(1_000).default(50),
    "Most live sessions of one account; a login beyond them ends the oldest",
  ),
  audiences: setting(
    list.default([]),
    "Audiences of access tokens beside Concierge's own services: one for each API that takes them",
  ),
  callerAudiences: setting(
    list
      .refine((pairs) => pairs.every((pair) => PAIR.test(pair)), "must be pairs such as billing=billing-api")
      .default([]),
    "Audiences of access tokens that callers of VerifyToken may ask about beside Concierge's own, as caller=audience",
  ),
  loginAttempts: setting(
    z.coerce.number().int().min(1).max(100).default(10),
    "Wrong passwords of one account in a burst; then one a minute, or one in ten seconds from a device that is known",
  ),
  attemptsPerAddress: setting(
    z.coerce.number().int().min(0).max(100_000).default(50),
    "Wrong passwords from one address (IPv6: one /64) in a burst, ten times as many from a network (/24, /48); then one in two " +
      "seconds; 0 lifts this and the limit of registrations",
    { production: (most) => (most === 0 ? limitless : undefined) },
  ),
  auditDays: setting(
    z.coerce.number().int().min(30).max(36_500).default(365),
    "Days for which entries of the audit log are kept, at least 30",
  ),
  passwordMinLength: setting(
    z.coerce.number().int().min(8).max(64).optional(),
    "Fewest code points of a new password; 15, or 8 in development mode, when not set",
  ),
  passwordBlockedWords: setting(
    list.default([]),
    "Words that add nothing to a new password's strength, such as the product's name",
  ),
  smtpUrl: secret.smtpUrl(
    "URL of the mail server: smtps://<user>:<password>@<host>, or smtp:// for STARTTLS; without one, development keeps " +
      "mails in memory",
    { optional: true },
  ),
  mailFrom: setting(z.email("must be an e-mail address").optional(), "Address that mails come from"),
  linkBaseUrl: linkUrl(
    "What links in mails begin with, such as https://app.example.com: pages that take the token behind the #",
  ),
  requireEmailVerification: setting(
    z.stringbool().optional(),
    "Whether an account can be used only once its address is verified; not set: everywhere but in development",
  ),
  hashQueueLength: setting(
    z.coerce.number().int().min(1).default(64),
    "Most passwords that wait to be hashed, and new ones that wait to be judged; more, or over 4 s for a hash, come back later",
  ),
};
