/** Worker: the Firebase SDK as the sender drives it, with nothing to ask or to tell: the reference of what a sender can do. */
import { systemClock as clock } from "../clock.ts";
import { answerCommands } from "../prove/workers.ts";
import { createPusher } from "../services/notification-sender/push.ts";
import type { ServiceAccountKey } from "../services/notification-sender/push-credentials.ts";

/** The most that one call of the SDK takes. */
const AT_ONCE = 500;

export interface DirectTask {
  key: ServiceAccountKey;
  endpoint: string;
  /** Registration tokens: one push for each. */
  tokens: string[];
}

answerCommands({
  async push({ key, endpoint, tokens }: DirectTask): Promise<void> {
    await using pusher = await createPusher({ key, endpoint, sendTimeoutMs: 80_000, clock });
    for (let start = 0; start < tokens.length; start += AT_ONCE) {
      const messages = tokens.slice(start, start + AT_ONCE).map((deviceToken) => ({
        ...{ deviceToken, notificationId: crypto.randomUUID() },
        ...{ title: "Order", body: "It is ready.", data: {}, priority: "normal" as const },
      }));
      const results = await pusher.send(messages);
      if (results.some(({ outcome }) => outcome !== "sent")) throw new Error("the stand-in refused a push");
    }
  },
});
