/**
 * Firebase: whether the service account's key is good for an access token, from the endpoint that pushes would use.
 * Nothing is pushed.
 */
import type { Clock } from "../clock.ts";
import type { ValuesOf } from "../config.ts";
import type { config } from "../services/notification-sender/config.ts";
import { createPusher } from "../services/notification-sender/push.ts";
import { absent, type Check, type DoctorContext, type Finding, ok, unfit } from "./finding.ts";

type Values = Pick<ValuesOf<typeof config>, "firebaseCredentials" | "pushEndpoint">;

export function firebaseChecks({ services, clock }: DoctorContext): Check[] {
  const values = services["notification-sender"] as Values | undefined;
  if (!values) return [];
  return [{ what: "Firebase", run: (signal) => examine(values, clock, signal) }];
}

async function examine(
  { firebaseCredentials: key, pushEndpoint: endpoint }: Values,
  clock: Clock,
  signal: AbortSignal,
): Promise<Finding[]> {
  await using pusher = await createPusher({ key, endpoint, sendTimeoutMs: 0, clock });
  const refusal = await pusher.prepare(signal);
  if (!refusal) return [ok(endpoint === undefined ? "gives an access token" : "a stand-in gives an access token")];
  if (refusal.code === "push/credentials-refused") {
    return [unfit("refuses the service account's key", "make a new key in the Firebase console")];
  }
  const remedy = "see whether oauth2.googleapis.com and fcm.googleapis.com can be reached from here, and the clock";
  return [absent(`gives no access token (${refusal.code})`, remedy)];
}
