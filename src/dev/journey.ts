/**
 * The main job from end to end, through the RPC APIs only: the public ones as the person, the internal ones with a service
 * token. One line a step, with its result and milliseconds. What was pushed is read back from the stand-in's ledger.
 */
import { randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { type Client, Code, ConnectError } from "@connectrpc/connect";
import { AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { NotificationService, Platform } from "../../gen/concierge/notification/v1/notification_service_pb.ts";
import { UserService } from "../../gen/concierge/user/v1/user_service_pb.ts";
import { beNotified } from "./journey-notifications.ts";
import { foundOrganization } from "./journey-organization.ts";
import { createStep, expect, type JourneyOptions, PublicClients, refusalOf, type Step } from "./journey-steps.ts";

const REFUSAL_TIMEOUT_MS = 1_000;
const REFUSAL_POLL_MS = 10;

/** Does the journey once. Throws at the first step that does not go as it must. */
export async function runJourney(options: JourneyOptions): Promise<void> {
  using people = new PublicClients(options.publicUrl);
  const random = randomBytes(6).toString("hex");
  const step = createStep(options);
  const auth = people.client(AuthService, "auth");
  const session = await signIn(auth, step, random);
  const journey: Journey = {
    ...{ options, step, auth, session },
    deviceToken: `device-${random}`,
    users: people.client(UserService, "user", session.accessToken),
    inbox: people.client(NotificationService, "notification", session.accessToken),
  };
  await settleIn(journey);
  await meetArtist(journey, people, random);
  await foundOrganization(journey, people, random);
  await beNotified(journey, random);
  await leave(journey, people, await mindSessions(journey, people));
}

/** What the parts of the journey share once somebody has logged in. */
export interface Journey {
  options: JourneyOptions;
  step: Step;
  auth: Client<typeof AuthService>;
  session: Session;
  deviceToken: string;
  users: Client<typeof UserService>;
  inbox: Client<typeof NotificationService>;
}

type Tokens = Pick<Session, "accessToken" | "refreshToken">;

interface Session {
  userId: string;
  email: string;
  password: string;
  accessToken: string;
  refreshToken: string;
}

async function signIn(auth: Client<typeof AuthService>, step: Step, random: string): Promise<Session> {
  const email = `journey-${random}@example.com`;
  const password = `a long password ${random}`;
  const { userId } = await step("register", async () => {
    const answer = await auth.registerUser({ email, password, firstName: "Ann", lastName: "Lee", locale: "en" });
    return { ...answer, result: `user ${answer.userId}` };
  });
  const { accessToken, refreshToken } = await step("log in", async () => {
    const answer = await auth.login({ email, password });
    return { ...answer, result: `session ${answer.sessionId}` };
  });
  return { userId, email, password, accessToken, refreshToken };
}

async function settleIn({ step, users, inbox, session, deviceToken }: Journey): Promise<void> {
  await step("read my profile", async () => {
    const { user } = await users.getMe({});
    expect(user?.email === session.email, "the profile has another e-mail");
    expect(user.roles.includes("user"), "the role user is missing");
    return { result: `${user.firstName} ${user.lastName} <${user.email}>, roles: ${user.roles.join(", ")}` };
  });
  await step("register my device", async () => {
    const { deviceId } = await inbox.registerDevice({ token: deviceToken, platform: Platform.ANDROID });
    return { result: `device ${deviceId}` };
  });
}

async function meetArtist(
  { step, auth, users, options }: Journey,
  people: PublicClients,
  random: string,
): Promise<void> {
  const stageName = `Night Owls ${random}`;
  const login = { email: `artist-${random}@example.com`, password: `another long password ${random}` };
  const { userId } = await step("register an artist", async () => {
    const answer = await auth.registerArtist({ ...login, stageName });
    return { ...answer, result: `artist ${answer.userId}` };
  });
  await step("read the artist", async () => {
    const { artist } = await users.getArtist({ userId });
    expect(artist?.stageName === stageName, "the artist has another stage name");
    return { result: artist.stageName };
  });
  const { artistCreated } = options;
  if (artistCreated) {
    await step("hear of it from Kafka", async () => {
      const { id, type } = await artistCreated(userId);
      return { result: `${type}, event ${id}, read by another process` };
    });
  }
  await step("update the artist", async () => {
    const { accessToken } = await auth.login(login);
    const change = { genres: ["jazz"], updateMask: { paths: ["genres"] } };
    await people.client(UserService, "user", accessToken).updateArtist(change);
    const { artist } = await users.getArtist({ userId });
    expect(artist?.genres.join() === "jazz", "others do not see the new genres");
    return { result: `${artist.stageName} plays ${artist.genres.join(", ")}` };
  });
}

/** Returns the session that the new password has started. */
async function mindSessions({ step, auth, users, session }: Journey, people: PublicClients): Promise<Tokens> {
  const { email, password } = session;
  const current = await step("refresh the session", async () => {
    const call = { refreshToken: session.refreshToken, idempotencyKey: randomBytes(16).toString("hex") };
    const answer = await auth.refreshToken(call);
    const again = await auth.refreshToken(call);
    expect(again.refreshToken === answer.refreshToken, "the repeated call has got another refresh token");
    return { ...again, result: "new tokens, and the same ones when the call is repeated" };
  });
  const mine = people.client(AuthService, "auth", current.accessToken);
  await step("end another session", async () => {
    const { sessionId, refreshToken } = await auth.login({ email, password });
    const before = (await mine.listSessions({})).sessions.length;
    await mine.endSession({ sessionId });
    const { code } = await refusalOf(auth.refreshToken({ refreshToken }));
    expect(code === Code.Unauthenticated, "the ended session is refused for another reason");
    return { result: `${before} sessions before, ${(await mine.listSessions({})).sessions.length} now` };
  });
  return step("change the password", async () => {
    const answer = await mine.changePassword({ currentPassword: password, newPassword: `${password}, changed` });
    await waitForRefusal(() => users.getMe({}));
    await people.client(UserService, "user", answer.accessToken).getMe({});
    return { ...answer, result: "the old session has ended, a new one has begun" };
  });
}

async function leave(
  { step, auth }: Journey,
  people: PublicClients,
  { accessToken, refreshToken }: Tokens,
): Promise<void> {
  const users = people.client(UserService, "user", accessToken);
  await step("log out", async () => {
    await auth.logout({ refreshToken });
    return { result: "the session has ended" };
  });
  await step("be refused", async () => {
    const refusal = await waitForRefusal(() => users.getMe({}));
    expect(refusal.code === Code.Unauthenticated, "the old token is refused for another reason");
    return { result: `${Code[refusal.code]}: the old token is worth nothing` };
  });
}

/** auth's feed tells the others of a logout: in a moment, in health. */
async function waitForRefusal(call: () => Promise<unknown>): Promise<ConnectError> {
  for (let waitedMs = 0; waitedMs < REFUSAL_TIMEOUT_MS; waitedMs += REFUSAL_POLL_MS) {
    const refusal = await call().then(
      () => undefined,
      (error: unknown) => ConnectError.from(error),
    );
    if (refusal) return refusal;
    await delay(REFUSAL_POLL_MS);
  }
  throw new Error(`the old token is still accepted after ${REFUSAL_TIMEOUT_MS} ms`);
}
