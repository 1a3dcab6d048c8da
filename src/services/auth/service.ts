/**
 * auth: accounts, credentials and sessions. The only service that holds private signing keys, and the one that the others
 * ask whether a session is live.
 */
import { file_concierge_auth_v1_auth_events } from "../../../gen/concierge/auth/v1/auth_events_pb.ts";
import { AuthInternalService, AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { answerJson } from "../../rpc/json.ts";
import { defineService, type ServiceContext } from "../../service.ts";
import { fixedKeyRing } from "../../token/key-ring.ts";
import { createSessionCheck, type SessionQuestion } from "../../token/session-check.ts";
import { createSigner, publicKeySet, type Signer } from "../../token/signing-keys.ts";
import { type AttemptLimits, attemptLimits } from "./attempts.ts";
import { auditJobs } from "./audit-chain.ts";
import { config } from "./config.ts";
import { authHandlers } from "./handlers.ts";
import { createPasswords, type Passwords } from "./passwords.ts";
import { RefreshKeys } from "./refresh-tokens.ts";
import { sweepAuth } from "./retention.ts";
import { createSessionQuery } from "./sessions.ts";

const MIN_PASSWORD_LENGTH = { development: 8, demo: 15, production: 15 };

/** What auth's code works with. */
export interface AuthContext extends Pick<ServiceContext, "db" | "feed" | "issuer" | "clock"> {
  passwords: Passwords;
  signer: Signer;
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
  async start({ config, mode, issuer, clock, db, feed }) {
    const { signingKeys, hashQueueLength, accessTokenSeconds, sessionSeconds, sessionIdleSeconds } = config;
    const minLength = config.passwordMinLength ?? MIN_PASSWORD_LENGTH[mode];
    const passwords = await createPasswords({ minLength, queueLength: hashQueueLength });
    const signer = createSigner(signingKeys);
    const isLive = createSessionQuery(db, sessionIdleSeconds);
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
        "/.well-known/jwks.json": (_, response) => answerJson(response, 200, jwks, { "cache-control": "max-age=60" }),
      },
      jobs: [...auditJobs(db, config.auditDays), sweepAuth(db)],
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
