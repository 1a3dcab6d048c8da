/**
 * auth: accounts, credentials and sessions. The only service that holds private signing keys, and the one that the others
 * ask whether a session is live.
 */
import { file_concierge_auth_v1_auth_events } from "../../../gen/concierge/auth/v1/auth_events_pb.ts";
import { AuthInternalService, AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { answerJson } from "../../rpc/json.ts";
import { defineService, type ServiceContext } from "../../service.ts";
import type { Gauge } from "../../telemetry/metrics.ts";
import { createSessionCheck, type SessionQuestion } from "../../token/session-check.ts";
import { type AttemptLimits, attemptLimits } from "./attempts.ts";
import { auditJobs } from "./audit-chain.ts";
import { config } from "./config.ts";
import { authHandlers } from "./handlers.ts";
import { OwnKeys } from "./own-keys.ts";
import { createPasswords, type Passwords } from "./passwords.ts";
import { RefreshKeys } from "./refresh-tokens.ts";
import { sweepAuth } from "./retention.ts";
import { createSessionQuery } from "./sessions.ts";

const MIN_PASSWORD_LENGTH = { development: 8, demo: 15, production: 15 };
/** Of zxcvbn's 0 to 4. */
const MIN_PASSWORD_SCORE = { development: 2, demo: 3, production: 3 };

/** What auth's code works with. */
export interface AuthContext extends Pick<ServiceContext, "db" | "feed" | "issuer" | "clock"> {
  passwords: Passwords;
  ownKeys: OwnKeys;
  isLive: SessionQuestion;
  refreshKeys: RefreshKeys;
  accessTokenSeconds: number;
  sessionSeconds: number;
  sessionIdleSeconds: number;
  sessionsPerUser: number;
  /** For which access tokens are made beside our own services. */
  audiences: string[];
  attempts: AttemptLimits;
}

export const auth = defineService({
  name: "auth",
  ports: { public: 8081, internal: 50051 },
  config,
  services: [AuthService, AuthInternalService],
  events: file_concierge_auth_v1_auth_events,
  peers: {},
  async start({ config, mode, issuer, clock, log, db, feed }) {
    const { signingKeys, hashQueueLength, accessTokenSeconds, sessionSeconds, sessionIdleSeconds } = config;
    const passwords = await createPasswords({
      minLength: config.passwordMinLength ?? MIN_PASSWORD_LENGTH[mode],
      minScore: MIN_PASSWORD_SCORE[mode],
      blockedWords: config.passwordBlockedWords,
      queueLength: hashQueueLength,
      log,
    });
    const ownKeys = new OwnKeys(signingKeys, db);
    const isLive = createSessionQuery(db, sessionIdleSeconds);
    return {
      implementations: authHandlers({
        db,
        feed,
        issuer,
        clock,
        passwords,
        ownKeys,
        isLive,
        refreshKeys: new RefreshKeys(config.tokenKeys),
        accessTokenSeconds,
        sessionSeconds,
        sessionIdleSeconds,
        sessionsPerUser: config.sessionsPerUser,
        audiences: config.audiences,
        attempts: attemptLimits(config.tokenKeys, {
          perAccount: config.loginAttempts,
          perAddress: config.attemptsPerAddress,
        }),
      }),
      plain: {
        "/.well-known/jwks.json": (_, response) =>
          answerJson(response, 200, ownKeys.published, { "cache-control": "max-age=60" }),
      },
      jobs: [
        { name: "watch removed keys", everyMs: 1_000, run: (signal) => ownKeys.follow(feed, signal) },
        ...auditJobs(db, config.auditDays),
        sweepAuth(db),
      ],
      gauges: gaugesOf(passwords),
      users: { keyRing: ownKeys, checkSession: createSessionCheck(isLive) },
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
