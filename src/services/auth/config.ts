/** Every variable of auth. */
import { z } from "zod";
import { linkUrl, list, secret, setting } from "../../config.ts";
import { databaseConfig, serviceKeysConfig } from "../../service.ts";

const seconds = z.coerce.number().int().min(1);

export const config = {
  ...databaseConfig,
  ...serviceKeysConfig,
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
  passwordMinLength: setting(
    z.coerce.number().int().min(8).max(64).optional(),
    "Fewest code points of a new password; 15, or 8 in development mode, when not set",
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
    "Most passwords that wait to be hashed; more are told to come back later",
  ),
};
