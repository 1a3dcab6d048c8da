/** Every variable of notification-sender. */
import { z } from "zod";
import { httpUrl, notInProduction, peerUrl, secret, setting } from "../../config.ts";
import { serviceKeysConfig } from "../../service.ts";
import { credentialsProblem, type ServiceAccountKey } from "./push-credentials.ts";

/** A push may begin in the first two thirds of a lease: some seconds more than claiming and looking again may take. */
const MIN_LEASE_SECONDS = 15;

/** Google's key file: checked here already, so that a wrong one stops the start before a port is opened. */
const serviceAccountKey = z
  .looseObject({}, "must be a JSON object")
  .superRefine((key, context) => {
    const message = credentialsProblem(key);
    if (message !== undefined) context.addIssue({ code: "custom", message });
  })
  .transform((key) => key as ServiceAccountKey);

export const config = {
  ...serviceKeysConfig,
  notificationUrl: peerUrl("URL of notification's internal listener", { default: "http://127.0.0.1:50055" }),
  pollMs: setting(
    z.coerce.number().int().min(10).max(60_000).default(1_000),
    "Milliseconds between two looks for notifications to push",
  ),
  batchSize: setting(
    z.coerce.number().int().min(1).max(500).default(250),
    "Most recipients that are claimed at once; batches follow each other without a pause",
  ),
  lanes: setting(
    z.coerce.number().int().min(1).max(10).default(2),
    "Batches that one process has under way at once: what a sender that dies may push again",
  ),
  leaseSeconds: setting(
    z.coerce.number().int().min(MIN_LEASE_SECONDS).max(300).default(15),
    "Seconds for which claimed recipients are kept from other senders; what a dead sender held is pushed after that",
  ),
  firebaseCredentials: secret.json(
    serviceAccountKey,
    "Key of the Firebase service account, the JSON file that Google hands out",
    (key) => [key.private_key],
  ),
  pushEndpoint: setting(httpUrl.optional(), "URL of a push stand-in, to which everything goes instead of Google", {
    production: notInProduction("the push stand-in delivers nothing", { allowedInDemo: true }),
  }),
};
