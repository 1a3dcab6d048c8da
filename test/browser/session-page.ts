/** What a web page does with a person's session, through the browser entry of the SDK. Each page has one. */
import { GreeterService } from "../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import { createSession, type Session } from "../../src/client/browser.ts";

interface SessionView {
  state: "signed-in" | "signed-out";
  userId?: string;
}

let session: Session;
let passedMs = 0;
const clock = { now: () => Date.now() + passedMs, monotonic: () => performance.now() + passedMs };

const view = (): SessionView => ({ state: session.state, userId: session.userId });

export const sessionActions = {
  /** Opens the session that the tabs of this origin share, or none. */
  async openSession(url: string): Promise<SessionView> {
    session = await createSession({ url, clock });
    return view();
  },
  /** Registers somebody, and logs in. */
  async signIn(person: { email: string; password: string }): Promise<SessionView> {
    await session.registerUser({ ...person, firstName: "Ann", lastName: "Lee" });
    await session.login(person);
    return view();
  },
  /** Moves the clock of this page alone. */
  async passTime(ms: number): Promise<void> {
    passedMs += ms;
  },
  /** Makes that many calls at once. */
  async greetAsPerson(count: number): Promise<string[]> {
    const greeter = session.service(GreeterService);
    const answers = await Promise.all(Array.from({ length: count }, () => greeter.sayHello({ name: "Ann" })));
    return answers.map(({ message }) => message);
  },
  async streamAsPerson(count: number): Promise<string[]> {
    const messages: string[] = [];
    const stream = session.service(GreeterService).sayHelloStream({ name: "Ann", count });
    for await (const { message } of stream) messages.push(message);
    return messages;
  },
  logOut: () => session.logout(),
  sessionView: async () => view(),
  accessToken: () => session.accessToken(),
};
