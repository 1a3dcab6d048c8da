/**
 * auth: accounts, credentials and sessions. The only service that holds private signing keys, and the one that the others
 * ask whether a session is live.
 */
import { AuthService as LegacyAuthService } from "../../../gen/auth/auth_service_pb.ts";
import { AccessInternalService } from "../../../gen/concierge/access/v1/access_service_pb.ts";
import { file_concierge_auth_v1_auth_events } from "../../../gen/concierge/auth/v1/auth_events_pb.ts";
import { AuthInternalService, AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { OrganizationInternalService } from "../../../gen/concierge/organization/v1/organization_service_pb.ts";
import { UserInternalService } from "../../../gen/concierge/user/v1/user_service_pb.ts";
import { Alarm, type Job } from "../../jobs.ts";
import { answerJson } from "../../rpc/json.ts";
import { createPace, type Pace } from "../../rpc/overload.ts";
import { defineService, type ServiceContext } from "../../service.ts";
import type { Gauge } from "../../telemetry/metrics.ts";
import { createSessionCheck, type SessionQuestion } from "../../token/session-check.ts";
import { type AttemptLimits, attemptLimits } from "./attempts.ts";
import { auditJobs } from "./audit-chain.ts";
import { config } from "./config.ts";
import { DerivedKeys } from "./derived-keys.ts";
import { followersOf } from "./followers.ts";
import { authHandlers } from "./handlers.ts";
import { revokeAll } from "./losses.ts";
import { createMailDelivery, type MailDelivery } from "./mail-delivery.ts";
import { answerMailRequests } from "./mail-requests.ts";
import { sendMails } from "./mailer.ts";
import { MAIL_TOKENS, type Mailing, sweepMails } from "./mails.ts";
import { OwnKeys } from "./own-keys.ts";
import { createPasswords, type Passwords } from "./passwords.ts";
import { REFRESH_TOKENS } from "./refresh-tokens.ts";
import { restRoutes } from "./rest.ts";
import { sweepAuth } from "./retention.ts";
import { createSessionQuery } from "./sessions.ts";
import { TokenVerifications } from "./token-verifications.ts";

/** For mails that nobody waits for, or that are to be tried again. */
const LOOK_MS = 1_000;
const SWEEP_MS = 3_600_000;
const MIN_PASSWORD_LENGTH = { development: 8, demo: 15, production: 15 };
/** Of zxcvbn's 0 to 4. */
const MIN_PASSWORD_SCORE = { development: 2, demo: 3, production: 3 };

const peers = {
  access: AccessInternalService,
  organization: OrganizationInternalService,
  user: UserInternalService,
};

/** What auth's code works with. */
export interface AuthContext
  extends Pick<ServiceContext<typeof config, typeof peers>, "db" | "feed" | "issuer" | "clock" | "rights" | "clients"> {
  verifications: TokenVerifications;
  passwords: Passwords;
  ownKeys: OwnKeys;
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
  attempts: AttemptLimits;
  /** In which a session may ask for organizations. */
  choicePace: Pace;
}

export const auth = defineService({
  name: "auth",
  ports: { public: 8081, internal: 50051 },
  config,
  services: [AuthService, AuthInternalService, LegacyAuthService],
  events: file_concierge_auth_v1_auth_events,
  peers,
  afterLoss: (db, { signingKeys }) => revokeAll(db, signingKeys),
  async start({ config, mode, issuer, clock, log, db, feed, rights, clients }) {
    const { signingKeys, tokenKeys, hashQueueLength, accessTokenSeconds, sessionSeconds, sessionIdleSeconds } = config;
    const passwords = await createPasswords({
      minLength: config.passwordMinLength ?? MIN_PASSWORD_LENGTH[mode],
      minScore: MIN_PASSWORD_SCORE[mode],
      blockedWords: config.passwordBlockedWords,
      queueLength: hashQueueLength,
      log,
    });
    const ownKeys = new OwnKeys(signingKeys, db);
    const isLive = createSessionQuery(db, sessionIdleSeconds);
    const delivery = createMailDelivery(config, mode);
    const mailing = {
      isOn: delivery.send !== undefined,
      keys: new DerivedKeys(tokenKeys, MAIL_TOKENS),
      alarm: new Alarm(),
      requestAlarm: new Alarm(),
    };
    const own = { db, feed, issuer, clock, rights, ownKeys, isLive };
    const verifications = new TokenVerifications({ ...own, log, callerAudiences: config.callerAudiences });
    return {
      implementations: authHandlers({
        ...own,
        clients,
        passwords,
        verifications,
        refreshKeys: new DerivedKeys(tokenKeys, REFRESH_TOKENS),
        mailing,
        requireEmailVerification: delivery.requireEmailVerification,
        accessTokenSeconds,
        sessionSeconds,
        sessionIdleSeconds,
        sessionsPerUser: config.sessionsPerUser,
        audiences: config.audiences,
        attempts: attemptLimits(tokenKeys, {
          perAccount: config.loginAttempts,
          perAddress: config.attemptsPerAddress,
        }),
        choicePace: createPace({ costMs: 1_000, burstMs: 60_000 }, clock),
      }),
      followers: followersOf(mailing),
      internalPlain: delivery.pages,
      plain: {
        "/.well-known/jwks.json": (_, response) =>
          answerJson(response, 200, ownKeys.published, { "cache-control": "max-age=60" }),
      },
      jobs: [
        { name: "watch removed keys", everyMs: 1_000, run: (signal) => ownKeys.follow(feed, signal) },
        ...auditJobs(db, config.auditDays),
        sweepAuth(db),
        ...mailJobs({ db, mailing, log }, delivery),
      ],
      watchers: [verifications.cards.watcher()],
      rest: { port: config.restPort, routes: restRoutes },
      gauges: gaugesOf(passwords),
      users: {
        keyRing: ownKeys,
        checkSession: createSessionCheck(isLive),
        followSessions: () => verifications.followSessions(),
      },
      async stop() {
        await passwords[Symbol.asyncDispose]();
      },
    };
  },
});

function gaugesOf(passwords: Passwords): Gauge[] {
  const queue = (name: string, read: () => number) => {
    return { name: "queue_length", help: "Work that waits for its turn", labels: { name }, read };
  };
  return [queue("password hashing", passwords.queueLength), queue("password strength", passwords.judgeQueueLength)];
}

function mailJobs(
  options: Pick<ServiceContext, "db" | "log"> & { mailing: Mailing },
  { send, linkBaseUrl }: MailDelivery,
): Job[] {
  const { db, mailing } = options;
  const sweep: Job = { name: "delete old mails", everyMs: SWEEP_MS, run: (signal) => sweepMails(db, signal) };
  if (!send) return [sweep];
  return [
    {
      name: "answer requests for mails",
      everyMs: LOOK_MS,
      alarm: mailing.requestAlarm,
      run: (signal) => answerMailRequests(options, signal),
    },
    {
      name: "send mails",
      everyMs: LOOK_MS,
      alarm: mailing.alarm,
      run: (signal) => sendMails({ ...options, send, linkBaseUrl }, signal),
    },
    sweep,
  ];
}
