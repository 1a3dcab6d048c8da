/** The journey's part as a recipient: a notification seen live, pushed, received and read, and one of a muted topic. */
import { setTimeout as delay } from "node:timers/promises";
import {
  NotificationInternalService,
  RecipientState,
  type WatchMyNotificationsResponse,
} from "../../gen/concierge/notification/v1/notification_service_pb.ts";
import type { Journey } from "./journey.ts";
import { asOperator, expect } from "./journey-steps.ts";

const TIMEOUT_MS = 10_000;
const POLL_MS = 20;
const TOPIC = "tables";

export async function beNotified(journey: Journey, random: string): Promise<void> {
  const { options, step, inbox, deviceToken } = journey;
  const text = `Your table is ready (${random})`;
  const leaving = new AbortController();
  const changes = await step("watch my inbox", async () => {
    const stream = inbox.watchMyNotifications({}, { signal: leaving.signal })[Symbol.asyncIterator]();
    await stream.next();
    return { stream, result: "whatever comes from here on is told" };
  });
  const notificationId = await beSent(journey, text);
  await step("see it come", async () => {
    const notification = await nextNotification(changes.stream);
    expect(notification?.notificationId === notificationId, "another notification came");
    leaving.abort();
    return { result: `"${notification.text}", about ${notification.topic}` };
  });
  await step("have it pushed", async () => {
    const entry = await waitFor("push", async () => (await options.pushes()).find(isPushOf(text)));
    expect(entry.token === deviceToken, "it was pushed to another device");
    return { result: `${entry.name} in the ledger` };
  });
  await step("mark it received", async () => {
    await inbox.markReceived({ notificationId });
    const { notifications } = await inbox.listMyNotifications({});
    const mine = notifications.find((notification) => notification.notificationId === notificationId);
    expect(mine?.receivedAt !== undefined, "the inbox does not show it as received");
    return { result: "received, as my inbox shows" };
  });
  await step("read it", async () => {
    const before = await inbox.countUnread({});
    await inbox.markRead({ notificationIds: [notificationId] });
    const { count } = await inbox.countUnread({});
    expect(count === before.count - 1, "it is not counted as read");
    return { result: `${before.count} not read before, ${count} now` };
  });
  await muteTopic(journey, `Another table is ready (${random})`);
}

async function beSent({ options, step, session }: Journey, text: string): Promise<string> {
  const { notificationId } = await step("be sent a notification", async () => {
    const answer = await notify(options, { text, userIds: [session.userId] });
    return { ...answer, result: `notification ${answer.notificationId}` };
  });
  return notificationId;
}

async function muteTopic({ options, step, inbox, session: { userId } }: Journey, text: string): Promise<void> {
  await step("mute the topic", async () => {
    await inbox.muteTopic({ topic: TOPIC });
    const { notificationId } = await notify(options, { text, userIds: [userId] });
    const recipient = await waitFor("decision", async () => {
      const { recipients } = await asOperator(options, NotificationInternalService, "notification", (operator) =>
        operator.listRecipients({ notificationId }),
      );
      return recipients.find(({ state }) => state !== RecipientState.PENDING);
    });
    expect(recipient.code === "muted", "it was not held back for being muted");
    expect(!(await options.pushes()).some(isPushOf(text)), "it was pushed all the same");
    const { notifications } = await inbox.listMyNotifications({});
    expect(notifications[0]?.notificationId === notificationId, "it is not in the inbox");
    return { result: "the next one is in my inbox, and was not pushed" };
  });
}

function notify(options: Journey["options"], { text, userIds }: { text: string; userIds: string[] }) {
  return asOperator(options, NotificationInternalService, "notification", (operator) =>
    operator.createNotification({
      title: "Concierge",
      text,
      userIds,
      topic: TOPIC,
      idempotencyKey: crypto.randomUUID(),
    }),
  );
}

/** The next message that is about a notification. */
async function nextNotification(stream: AsyncIterator<WatchMyNotificationsResponse>) {
  for (;;) {
    const { done, value } = await stream.next();
    if (done) return undefined;
    if (value.change.case === "notification") return value.change.value;
  }
}

function isPushOf(text: string) {
  return ({ message }: { message: Record<string, unknown> }) =>
    (message.notification as { body?: string }).body === text;
}

async function waitFor<T>(what: string, look: () => Promise<T | undefined>): Promise<T> {
  for (let waitedMs = 0; waitedMs < TIMEOUT_MS; waitedMs += POLL_MS) {
    const found = await look();
    if (found !== undefined) return found;
    await delay(POLL_MS);
  }
  throw new Error(`no ${what} within ${TIMEOUT_MS} ms`);
}
