/**
 * A mail server for tests: real SMTP on a free port of loopback, which remembers what it took and refuses what it is
 * told to.
 */
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { SMTPServer } from "smtp-server";

export interface ReceivedMail {
  to: string[];
  /** Header and body, as they came. */
  raw: string;
}

export interface MailServer extends AsyncDisposable {
  /** With user and password. */
  readonly url: string;
  readonly password: string;
  readonly received: ReceivedMail[];
  /** Recipients that were offered, taken or not. */
  readonly offered: string[];
  /** Refuses every recipient with this status from now on; 0 takes them again. */
  refuseWith(status: number): void;
}

export async function startMailServer(): Promise<MailServer> {
  const user = "concierge";
  const password = crypto.randomUUID();
  const received: ReceivedMail[] = [];
  const offered: string[] = [];
  let status = 0;
  const server = new SMTPServer({
    allowInsecureAuth: true,
    disabledCommands: ["STARTTLS"],
    disableReverseLookup: true,
    onAuth(auth, _, done) {
      if (auth.username === user && auth.password === password) done(null, { user });
      else done(new Error("unknown user"));
    },
    onRcptTo({ address }, _, done) {
      offered.push(address);
      if (status === 0) done();
      else done(Object.assign(new Error(`<${address}> is refused`), { responseCode: status }));
    },
    async onData(stream, { envelope }, done) {
      const raw = await text(stream);
      received.push({ to: envelope.rcptTo.map(({ address }) => address), raw });
      done();
    },
  });
  server.listen(0, "127.0.0.1");
  await once(server.server, "listening");
  const { port } = server.server.address() as AddressInfo;
  return {
    url: `smtp://${user}:${password}@127.0.0.1:${port}`,
    ...{ password, received, offered },
    refuseWith(code) {
      status = code;
    },
    async [Symbol.asyncDispose]() {
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
