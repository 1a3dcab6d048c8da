/**
 * auth: accounts, credentials and sessions. The only service that holds private signing keys, and the one that the others
 * ask whether a session is live.
 */
import { AuthInternalService, AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import { answerJson } from "../../rpc/probes.ts";
import { defineService } from "../../service.ts";
import { fixedKeyRing } from "../../token/key-ring.ts";
import { createSessionCheck } from "../../token/sessions.ts";
import { createSigner, publicKeySet } from "../../token/signing-keys.ts";
import { config } from "./config.ts";
import { authHandlers } from "./handlers.ts";
import { createPasswords } from "./passwords.ts";
import { createSessionQuery } from "./sessions.ts";

const MIN_PASSWORD_LENGTH = { development: 8, demo: 15, production: 15 };

export const auth = defineService({
  name: "auth",
  ports: { public: 8081, internal: 50051 },
  config,
  hasDatabase: true,
  services: [AuthService, AuthInternalService],
  peers: {},
  async start({ config, mode, issuer, clock, db }) {
    const { signingKeys, accessTokenSeconds, sessionSeconds, hashQueueLength } = config;
    const minLength = config.passwordMinLength ?? MIN_PASSWORD_LENGTH[mode];
    const passwords = await createPasswords({ minLength, queueLength: hashQueueLength });
    const signer = createSigner(signingKeys);
    const isLive = createSessionQuery(db);
    const jwks = publicKeySet(signingKeys);
    return {
      implementations: authHandlers(
        { db, passwords, signer, issuer, clock, accessTokenSeconds, sessionSeconds },
        isLive,
      ),
      plain: {
        "/.well-known/jwks.json": (_, response) => answerJson(response, 200, jwks, { "cache-control": "max-age=60" }),
      },
      users: { keyRing: fixedKeyRing(signingKeys), checkSession: createSessionCheck(isLive) },
    };
  },
});
