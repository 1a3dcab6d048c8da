/**
 * What people and operators do while a system is backed up and lost, and what was acknowledged of it, each with the moment: the
 * truth that a restored system is compared with. A call that fails acknowledges nothing.
 */
import { setTimeout as delay } from "node:timers/promises";
import { type Client, createClient } from "@connectrpc/connect";
import type { AccessInternalService } from "../../gen/concierge/access/v1/access_service_pb.ts";
import { AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import {
  type NotificationInternalService,
  NotificationService,
  Platform,
} from "../../gen/concierge/notification/v1/notification_service_pb.ts";
import { UserService } from "../../gen/concierge/user/v1/user_service_pb.ts";
import { logIn, newUser, type TestUser, userTransport } from "../testing/people.ts";

const PEOPLE = 10;
const PAUSE_MS = 100;
const ROLE = "drill";

export interface LoadPlaces {
  authUrl: string;
  /** Public listener of the others. */
  othersUrl: string;
  access: Client<typeof AccessInternalService>;
  notification: Client<typeof NotificationInternalService>;
}

/** Something that was acknowledged. */
interface Acknowledged {
  /** The load's moment then. */
  at: number;
}

export interface LoggedSession extends TestUser, Acknowledged {
  endedAt?: number;
  /** A call is under way that may end it or change its tokens. */
  isBusy: boolean;
}

export class Load implements AsyncDisposable {
  /** Raised by the caller when something happens that acknowledgements are to be told apart by. */
  moment = 0;
  readonly people: TestUser[] = [];
  readonly sessions: LoggedSession[] = [];
  readonly deleted: (Acknowledged & { userId: string })[] = [];
  readonly assigned: (Acknowledged & { userId: string })[] = [];
  readonly notifications: (Acknowledged & { notificationId: string; userId: string })[] = [];
  readonly #places: LoadPlaces;
  readonly #auth: Client<typeof AuthService>;
  readonly #end = new AbortController();
  #running: Promise<unknown> = Promise.resolve();

  constructor(places: LoadPlaces) {
    this.#places = places;
    this.#auth = createClient(AuthService, userTransport(places.authUrl));
  }

  /** Makes people with a device each, and begins. */
  async begin(): Promise<void> {
    await this.#places.access.createRole({ name: ROLE });
    for (let number = 0; number < PEOPLE; number++) {
      const person = await newUser(this.#auth);
      this.people.push(person);
      this.#log(person);
      const inbox = createClient(NotificationService, userTransport(this.#places.othersUrl, person.accessToken));
      await inbox.registerDevice({ token: `phone ${person.userId}`, platform: Platform.ANDROID });
    }
    const work = [
      () => this.#session(),
      () => this.#notify(),
      () => this.#rename(),
      () => this.#assign(),
      () => this.#leave(),
    ];
    this.#running = Promise.all(work.map((each) => this.#repeat(each)));
  }

  /** Ends it. Calls under way are answered, or fail. */
  async end(): Promise<void> {
    this.#end.abort();
    await this.#running;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.end();
  }

  get ended(): LoggedSession[] {
    return this.sessions.filter(({ endedAt }) => endedAt !== undefined);
  }

  /** Neither ended nor in doubt. */
  get live(): LoggedSession[] {
    return this.sessions.filter(({ endedAt, isBusy }) => endedAt === undefined && !isBusy);
  }

  /** A new session of each person. */
  everybodyAgain(): Promise<TestUser[]> {
    return Promise.all(this.people.map((person) => logIn(this.#auth, person)));
  }

  /** Logs out of a session of this moment. */
  async endOneOf(moment: number): Promise<void> {
    await this.#logOut(
      this.sessions.find(({ at, endedAt, isBusy }) => at === moment && endedAt === undefined && !isBusy)!,
    );
  }

  /** Logs somebody in. */
  async startOne(): Promise<LoggedSession> {
    return this.#log(await logIn(this.#auth, this.#anybody()));
  }

  async #repeat(work: () => Promise<void>): Promise<void> {
    while (!this.#end.signal.aborted) {
      await work().catch(() => {});
      await delay(PAUSE_MS);
    }
  }

  #anybody(): TestUser {
    return this.people[Math.floor(Math.random() * this.people.length)]!;
  }

  #log(user: TestUser): LoggedSession {
    const session = { ...user, at: this.moment, isBusy: false };
    this.sessions.push(session);
    return session;
  }

  /** A login; then it is refreshed, or an older one ends. */
  async #session(): Promise<void> {
    const session = await this.startOne();
    session.isBusy = true;
    const { accessToken, refreshToken } = await this.#auth.refreshToken({ refreshToken: session.refreshToken });
    Object.assign(session, { accessToken, refreshToken, isBusy: false });
    const [older] = this.live;
    if (Math.random() < 0.6 && older) await this.#logOut(older);
  }

  async #logOut(session: LoggedSession): Promise<void> {
    session.isBusy = true;
    await this.#auth.logout({ refreshToken: session.refreshToken });
    Object.assign(session, { endedAt: this.moment, isBusy: false });
  }

  async #notify(): Promise<void> {
    const { userId } = this.#anybody();
    const call = { title: "Drill", text: crypto.randomUUID(), userIds: [userId], idempotencyKey: crypto.randomUUID() };
    const { notificationId } = await this.#places.notification.createNotification(call);
    this.notifications.push({ notificationId, userId, at: this.moment });
  }

  async #rename(): Promise<void> {
    const { accessToken } = await this.startOne();
    const firstName = `Ann ${crypto.randomUUID().slice(0, 8)}`;
    const users = createClient(UserService, userTransport(this.#places.othersUrl, accessToken));
    await users.updateUser({ firstName, updateMask: { paths: ["first_name"] } });
  }

  async #assign(): Promise<void> {
    const { userId } = this.#anybody();
    if (this.assigned.some((one) => one.userId === userId)) return;
    await this.#places.access.assignRole({ userId, role: ROLE });
    this.assigned.push({ userId, at: this.moment });
  }

  /** Somebody registers, and leaves for good. */
  async #leave(): Promise<void> {
    const person = this.#log(await newUser(this.#auth));
    person.isBusy = true;
    const own = createClient(AuthService, userTransport(this.#places.authUrl, person.accessToken));
    await own.deleteMyAccount({ currentPassword: person.password });
    Object.assign(person, { endedAt: this.moment, isBusy: false });
    this.deleted.push({ userId: person.userId, at: this.moment });
  }
}
