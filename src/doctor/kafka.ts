/** Kafka: whether brokers answer and let us in, and whether every topic is there that these services publish to. */
import { ExitCode, StartupError } from "../errors.ts";
import { missingTopics } from "../kafka/admin.ts";
import { topicsOf } from "../kafka/topics.ts";
import { absent, type Check, type DoctorContext, ok } from "./finding.ts";

export function kafkaChecks({ platform, definitions }: DoctorContext): Check[] {
  const names = topicsOf(definitions, platform.kafkaTopicPrefix);
  if (platform.kafkaBrokers === undefined || names.length === 0) return [];
  return [
    {
      what: "Kafka",
      async run() {
        const missing = await missingTopics(platform, names).catch((error: unknown) => {
          if (error instanceof StartupError && error.exitCode === ExitCode.unavailable) return undefined;
          throw error;
        });
        if (!missing) {
          const remedy = "see whether they run, and whether their addresses, TLS, user and password are right";
          return [absent("brokers do not answer, or refuse", remedy)];
        }
        if (missing.length === 0) return [ok(`answers, and has all ${names.length} topics`)];
        const finding = `has no topic ${missing.join(", ")}, or does not show it`;
        return [absent(finding, "run `concierge kafka topics`, or let this user describe and write them")];
      },
    },
  ];
}
