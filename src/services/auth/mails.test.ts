/** Mails on their way out: over real SMTP, whatever the server answers and whoever dies. */
import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import type { Sql } from "postgres";
import { AuthService } from "../../../gen/concierge/auth/v1/auth_service_pb.ts";
import type { Mode } from "../../config.ts";
import { connect } from "../../db/connection.ts";
import { StartupError } from "../../errors.ts";
import { armFailpoint } from "../../failpoints.ts";
import { sendHttp } from "../../testing/http.ts";
import { type MailServer, type ReceivedMail, startMailServer } from "../../testing/mail-server.ts";
import { tokenIn } from "../../testing/mails.ts";
import { startTestService, type TestSystem } from "../../testing/system.ts";
import { until } from "../../testing/until.ts";
import { createMailDelivery } from "./mail-delivery.ts";
import { auth } from "./service.ts";
import { mustEncrypt } from "./smtp.ts";

const BASE_URL = "https://app.example.com/account/";
const DAY_MS = 86_400_000;
const LEASE_MS = 120_000;

/** Without the soft line breaks of its encoding. */
const bodyOf = ({ raw }: ReceivedMail) =>
  raw.slice(raw.indexOf("\r\n\r\n")).replaceAll("=\r\n", "").replaceAll("=3D", "=").replaceAll("\r\n", "\n");
const headerOf = ({ raw }: ReceivedMail, name: string) =>
  new RegExp(`^${name}: (.*)\\r$`, "im").exec(raw.slice(0, raw.indexOf("\r\n\r\n")))?.[1];

describe("mails", () => {
  let server: MailServer;
  let system: TestSystem;
  let sql: Sql;

  before(async () => {
    server = await startMailServer();
    system = await startTestService(auth, {
      variables: {
        CONCIERGE_AUTH_SMTP_URL: server.url,
        CONCIERGE_AUTH_MAIL_FROM: "no-reply@concierge.example",
        CONCIERGE_AUTH_LINK_BASE_URL: BASE_URL,
      },
    });
    await system.server.ready;
    sql = connect(system.database("auth").ownerUrl, { applicationName: "test" });
  });

  after(async () => {
    await sql.end();
    await system[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
  });

  afterEach(() => server.refuseWith(0));

  async function register(details: { firstName?: string; email?: string } = {}) {
    const email = details.email ?? `${crypto.randomUUID()}@example.com`;
    await system.asUser(AuthService).registerUser({ ...details, email, password: `pass-${crypto.randomUUID()}` });
    return email;
  }

  const receivedBy = (email: string) => server.received.filter(({ to }) => to.includes(email));
  const firstTo = (email: string) => until("the mail", () => receivedBy(email)[0]);
  const rowOf = async (email: string) => (await sql`select * from mails where recipient = ${email}`)[0]!;
  const rowWhere = (email: string, holds: (row: Awaited<ReturnType<typeof rowOf>>) => boolean) =>
    until("the mail's state", async () => {
      const row = await rowOf(email);
      return holds(row) && row;
    });

  /** Between the last try and the next one, in tens of seconds: the try itself takes some time. */
  const pauseOf = (row: Awaited<ReturnType<typeof rowOf>>) =>
    Math.floor((row.next_attempt_at - row.last_attempt_at) / 10_000) * 10;

  test("a registration sends one mail, to one address, with a link to the configured page", async () => {
    const email = await register();
    const mail = await firstTo(email);
    const row = await rowWhere(email, ({ sent_at }) => sent_at !== null);
    assert.deepEqual(mail.to, [email]);
    assert.equal(headerOf(mail, "to"), email);
    assert.equal(headerOf(mail, "from"), "Concierge <no-reply@concierge.example>");
    assert.equal(headerOf(mail, "message-id"), `<${row.id}@concierge.example>`);
    assert.equal(headerOf(mail, "auto-submitted"), "auto-generated");
    assert.match(bodyOf(mail), /^https:\/\/app\.example\.com\/account\/verify-email#token=[\w-]{43}$/m);
    assert.equal(receivedBy(email).length, 1);
  });

  test("S-PWD-21 the link of a reset is the configured one, whatever host the request names", async () => {
    const email = await register();
    await firstTo(email);
    for (const evil of ["host", "x-forwarded-host", "forwarded", "x-forwarded-proto", "origin"]) {
      const { status } = await sendHttp("1.1", system.publicUrl, {
        httpMethod: "POST",
        path: `/${AuthService.typeName}/RequestPasswordReset`,
        headers: [
          ["content-type", "application/json"],
          [evil, evil === "forwarded" ? "host=evil.example" : "evil.example"],
        ],
        body: Buffer.from(JSON.stringify({ email })),
      });
      assert.equal(status, 200, evil);
    }
    const resets = await until("three resets, which are the most", () => {
      const mails = receivedBy(email).filter((mail) => headerOf(mail, "subject") === "Choose a new password");
      return mails.length === 3 && mails;
    });
    for (const mail of resets) {
      assert.match(bodyOf(mail), /^https:\/\/app\.example\.com\/account\/reset-password#token=[\w-]{43}$/m);
      assert.doesNotMatch(mail.raw, /evil/);
    }
  });

  test("what a server refuses for now is sent later, with growing pauses", async () => {
    server.refuseWith(451);
    const email = await register();
    await rowWhere(email, (row) => row.attempts === 1 && pauseOf(row) === 30);
    await system.advance(31_000);
    await rowWhere(email, (row) => row.attempts === 2 && pauseOf(row) === 60);
    server.refuseWith(0);
    await system.advance(61_000);
    assert.equal((await firstTo(email)).to[0], email);
    const row = await rowWhere(email, ({ sent_at }) => sent_at !== null);
    assert.deepEqual([row.attempts, row.given_up_at], [3, null]);
  });

  test("what a server refuses for good is given up at once, and what it refuses for a day after that", async () => {
    server.refuseWith(550);
    const gone = await register();
    const { attempts } = await rowWhere(gone, ({ given_up_at }) => given_up_at !== null);
    assert.equal(attempts, 1);
    server.refuseWith(451);
    const full = await register();
    await rowWhere(full, (row) => pauseOf(row) === 30);
    await system.advance(DAY_MS + 1);
    const late = await rowWhere(full, ({ given_up_at }) => given_up_at !== null);
    assert.equal(late.attempts, 2);
    const note = JSON.stringify(system.logLines.filter(({ msg }) => msg === "a mail was given up"));
    assert.match(note, /"command":"RCPT TO","status":550/);
    assert.doesNotMatch(note, new RegExp(gone));
  });

  test("a reset whose link has become too old is given up without being sent", async () => {
    const email = await register();
    await firstTo(email);
    server.refuseWith(451);
    await system.asUser(AuthService).requestPasswordReset({ email });
    const resetOf = async () =>
      (await sql`select * from mails where recipient = ${email} and kind = 'reset_password'`)[0];
    await until("the first try", async () => {
      const found = await resetOf();
      return found?.attempts === 1 && pauseOf(found) === 30;
    });
    server.refuseWith(0);
    await system.advance(30 * 60_000);
    const row = await until("its end", async () => {
      const found = await resetOf();
      return found?.given_up_at && found;
    });
    assert.equal(row.sent_at, null);
    assert.equal(receivedBy(email).length, 1);
  });

  test("who dies between sending a mail and writing it down has it sent again, as the same one", async () => {
    const email = `${crypto.randomUUID()}@example.com`;
    {
      using _died = armFailpoint("mailer.after_send", "error");
      await register({ email });
      await firstTo(email);
      await until("the failed run", () => system.logLines.some(({ job }) => job === "send mails"));
    }
    assert.equal((await rowOf(email)).sent_at, null);
    await system.advance(LEASE_MS + 1);
    const [first, second] = await until("the second mail", () => receivedBy(email).length === 2 && receivedBy(email));
    await rowWhere(email, ({ sent_at }) => sent_at !== null);
    assert.equal(headerOf(first!, "message-id"), headerOf(second!, "message-id"));
    assert.equal(tokenIn(bodyOf(first!)), tokenIn(bodyOf(second!)));
  });

  test("two replicas send each mail once", async () => {
    await using replica = await system.startReplica();
    await replica.ready;
    const emails = await Promise.all(Array.from({ length: 25 }, () => register()));
    for (const email of emails) await rowWhere(email, ({ sent_at }) => sent_at !== null);
    assert.deepEqual(
      emails.map((email) => receivedBy(email).length),
      emails.map(() => 1),
    );
  });

  test("no token and no password of the mail server is in the database or in the log", async () => {
    const email = await register();
    const token = tokenIn(bodyOf(await firstTo(email)));
    const row = await rowWhere(email, ({ sent_at }) => sent_at !== null);
    const stored = JSON.stringify(await sql`select m::text from mails m`) + JSON.stringify(row);
    const logged = JSON.stringify(system.logLines);
    for (const secret of [token, Buffer.from(token).toString("hex"), server.password]) {
      assert.ok(!stored.includes(secret) && !logged.includes(secret));
    }
  });

  test("a mail is forgotten after 30 days", async () => {
    const email = await register();
    await rowWhere(email, ({ sent_at }) => sent_at !== null);
    await system.advance(29 * DAY_MS);
    const later = await register();
    await rowWhere(later, ({ sent_at }) => sent_at !== null);
    await system.advance(2 * DAY_MS);
    await using replica = await system.startReplica();
    await replica.ready;
    await until("the mail's end", async () => (await rowOf(email)) === undefined);
    assert.ok(await rowOf(later));
  });

  test("nothing that a stranger has typed changes a mail's header or gets into its text", async () => {
    const evil = "http://evil.example\r\nBcc: victim@example.com";
    for (const email of [
      "a@example.com\r\nBcc: victim@example.com",
      "a@example.com, victim@example.com",
      "A <a@b.c>",
    ]) {
      await assert.rejects(register({ email }), /email/);
    }
    const email = `o'x+y=%{z}${crypto.randomUUID()}@example.com`;
    await register({ email, firstName: evil.slice(0, 100) });
    const mail = await firstTo(email);
    assert.deepEqual(mail.to, [email]);
    assert.doesNotMatch(mail.raw, /evil|victim/);
    assert.ok(!server.offered.includes("victim@example.com"));
  });
});

test("where mails go: what is missing stops the start", () => {
  const none = { smtpUrl: undefined, mailFrom: undefined, linkBaseUrl: undefined, requireEmailVerification: undefined };
  const smtp = { ...none, smtpUrl: "smtps://a:b@mail.example.com" };
  const refusal = (message: RegExp) => (error: unknown) => error instanceof StartupError && message.test(error.message);
  for (const mode of ["production", "demo"] as const) {
    assert.throws(() => createMailDelivery(none, mode), refusal(/^CONCIERGE_AUTH_SMTP_URL is missing/));
    const off = createMailDelivery({ ...none, requireEmailVerification: false }, mode);
    assert.deepEqual([off.send, off.pages, off.requireEmailVerification], [undefined, {}, false]);
    assert.throws(() => createMailDelivery(smtp, mode), refusal(/^CONCIERGE_AUTH_MAIL_FROM is missing/));
    const from = { ...smtp, mailFrom: "a@example.com" };
    assert.throws(() => createMailDelivery(from, mode), refusal(/^CONCIERGE_AUTH_LINK_BASE_URL is missing/));
    const on = createMailDelivery({ ...from, linkBaseUrl: BASE_URL }, mode);
    assert.deepEqual([on.pages, on.requireEmailVerification, on.linkBaseUrl], [{}, true, BASE_URL]);
  }
  assert.equal(createMailDelivery(none, "development").requireEmailVerification, false);
});

test("a mail server on another host is reached with TLS only; in a container network production insists, too", () => {
  const required = (host: string, mode: Mode) => mustEncrypt(`smtp://a:b@${host}:587`, mode);
  for (const mode of ["development", "demo", "production"] as const) {
    assert.equal(required("mail.example.com", mode), true);
    assert.equal(required("127.0.0.1", mode), false);
    assert.equal(required("mailpit", mode), mode === "production");
  }
});
