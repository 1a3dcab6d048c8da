/** What the services send to their databases for the calls that are measured, as it was sent for one person. */
import { AuthInternalService, AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { UserService } from "../../gen/concierge/user/v1/user_service_pb.ts";
import { access } from "../services/access/service.ts";
import { hashOf } from "../services/auth/refresh-tokens.ts";
import { auth } from "../services/auth/service.ts";
import { user } from "../services/user/service.ts";
import { startTestSystem } from "../testing/system.ts";
import { recordStatements, type SentStatement } from "./recorded-statements.ts";

/** Whose values are among the parameters. */
export interface RecordedPerson {
  userId: string;
  sessionId: string;
  email: string;
  /** SHA-256 of the refresh token. */
  tokenHash: Buffer;
}

export interface AuthStatements {
  /** A transaction. */
  register: SentStatement[];
  /** Two statements without one. */
  refresh: SentStatement[];
  /** What finds a credential by its address at a login. */
  credential: SentStatement;
  /** What locks account, session and token at a refresh. */
  lock: SentStatement;
  account: SentStatement;
  sessions: SentStatement;
  profile: SentStatement;
}

/** Makes each call once, over a system of its own. */
export async function recordAuth(): Promise<{ statements: AuthStatements; person: RecordedPerson }> {
  await using system = await startTestSystem({ definitions: [auth, access, user] });
  using recorded = recordStatements();
  const { userId, sessionId, email, refreshToken, accessToken } = await system.newUser();
  const client = system.asUser(AuthService, accessToken);
  const refresh = { refreshToken, idempotencyKey: crypto.randomUUID() };
  await client.refreshToken(refresh);
  // The one that is repeated locks before it decides.
  await client.refreshToken(refresh);
  await client.listSessions({});
  await system.asService(AuthInternalService, "backend", "auth").getAccount({ userId });
  await system.asUser(UserService, accessToken).getMe({});
  const presented = /^select "sessions"\."id" as "sessionId"/;
  return {
    person: { userId, sessionId, email, tokenHash: hashOf(refreshToken) },
    statements: {
      register: recorded.transactionOf(/^insert into "accounts"/),
      refresh: [recorded.find(new RegExp(`${presented.source}.*\\$\\d+$`)), recorded.find(/^with usable as/)],
      credential: recorded.find(/^select .*"password_hash".*"accounts"\."email_key" = /),
      lock: recorded.find(new RegExp(`${presented.source}.*for no key update`)),
      account: recorded.find(/^select "id".* from "accounts" where "accounts"\."id" = \$1$/),
      sessions: recorded.find(/^select "id".* from "sessions" where \("sessions"\."account_id" = /),
      profile: recorded.find(/^select .* from "profiles" left join "artists"/),
    },
  };
}
