/**
 * auth: accounts, credentials and sessions. The only service that holds private signing keys, and the one that the others
 * ask whether a session is live.
 */
import { file_concierge_auth_v1_auth_events } from "../../../gen/concierge/auth/v1/auth_events_pb.ts";
import { AuthInternalService, AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { Alarm, type Job } from "../../jobs.ts";
import { answerJson } from "../../rpc/json.ts";
import { defineService, type ServiceContext } from "../../service.ts";
import { fixedKeyRing } from "../../token/key-ring.ts";
import { createSessionCheck, type SessionQuestion } from "../../token/session-check.ts";
import { createSigner, publicKeySet, type Signer } from "../../token/signing-keys.ts";
import { config } from "./config.ts";
import { DerivedKeys } from "./derived-keys.ts";
import { authHandlers } from "./handlers.ts";
import { createMailDelivery, type MailDelivery } from "./mail-delivery.ts";
import { sendMails } from "./mailer.ts";
import { MAIL_TOKENS, type Mailing, sweepMails } from "./mails.ts";
import { createPasswords, type Passwords } from "./passwords.ts";
import { REFRESH_TOKENS } from "./refresh-tokens.ts";
import { createSessionQuery } from "./sessions.ts";

/** For mails that nobody waits for, or that are to be tried again. */
const LOOK_MS = 1_000;
const SWEEP_MS = 3_600_000;
const MIN_PASSWORD_LENGTH = { development: 8, demo: 15, production: 15 };

/** What auth's code works with. */
export interface AuthContext extends Pick<ServiceContext, "db" | "feed" | "issuer" | "clock"> {
  passwords: Passwords;
  signer: Signer;
  isLive: SessionQuestion;
  refreshKeys: DerivedKeys;
  mailing: Mailing;
  /** Whether an account can be used only once its address is verified. */
  requireEmailVerification: boolean;
  accessTokenSeconds: number;
  sessionSeconds: number;
  sessionIdleSeconds: number;
  sessionsPerUser: number;
  /** For which access tokens are made beside our own services. */
  audiences: string[];
}

export const auth = defineService({
  name: "auth",
  ports: { public: 8081, internal: 50051 },
  config,
  services: [AuthService, AuthInternalService],
  events: file_concierge_auth_v1_auth_events,
  peers: {},
  async start({ config, mode, issuer, clock, db, feed, log }) {
    const { signingKeys, tokenKeys, hashQueueLength, accessTokenSeconds, sessionSeconds, sessionIdleSeconds } = config;
    const minLength = config.passwordMinLength ?? MIN_PASSWORD_LENGTH[mode];
    const passwords = await createPasswords({ minLength, queueLength: hashQueueLength });
    const signer = createSigner(signingKeys);
    const isLive = createSessionQuery(db, sessionIdleSeconds);
    const delivery = createMailDelivery(config, mode);
    const mailing = {
      isOn: delivery.send !== undefined,
      keys: new DerivedKeys(tokenKeys, MAIL_TOKENS),
      alarm: new Alarm(),
    };
    const jwks = publicKeySet(signingKeys);
    return {
      implementations: authHandlers({
        db,
        feed,
        issuer,
        clock,
        passwords,
        signer,
        isLive,
        refreshKeys: new DerivedKeys(tokenKeys, REFRESH_TOKENS),
        mailing,
        requireEmailVerification: delivery.requireEmailVerification,
        accessTokenSeconds,
        sessionSeconds,
        sessionIdleSeconds,
        sessionsPerUser: config.sessionsPerUser,
        audiences: config.audiences,
      }),
      jobs: mailJobs({ db, mailing, log }, delivery),
      internalPlain: delivery.pages,
      plain: {
        "/.well-known/jwks.json": (_, response) => answerJson(response, 200, jwks, { "cache-control": "max-age=60" }),
      },
      gauges: [
        {
          name: "queue_length",
          help: "Work that waits for its turn",
          labels: { name: "password hashing" },
          read: passwords.queueLength,
        },
      ],
      users: { keyRing: fixedKeyRing(signingKeys), checkSession: createSessionCheck(isLive) },
    };
  },
});

function mailJobs(
  options: Pick<ServiceContext, "db" | "log"> & { mailing: Mailing },
  { send, linkBaseUrl }: MailDelivery,
): Job[] {
  const { db, mailing } = options;
  const sweep: Job = { name: "delete old mails", everyMs: SWEEP_MS, run: (signal) => sweepMails(db, signal) };
  if (!send) return [sweep];
  const run = (signal: AbortSignal) => sendMails({ ...options, send, linkBaseUrl }, signal);
  return [{ name: "send mails", everyMs: LOOK_MS, alarm: mailing.alarm, run }, sweep];
}
