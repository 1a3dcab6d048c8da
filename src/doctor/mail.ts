/** Mails: whether auth knows how to send them, and whether the mail server lets it in. Nothing is sent. */
import type { Mode, ValuesOf } from "../config.ts";
import type { config } from "../services/auth/config.ts";
import { createMailDelivery } from "../services/auth/mail-delivery.ts";
import { checkSmtp } from "../services/auth/smtp.ts";
import { absent, type Check, codeOf, type DoctorContext, type Finding, ok, unfit } from "./finding.ts";

type Values = ValuesOf<typeof config>;

export function mailChecks({ services, platform }: DoctorContext): Check[] {
  const values = services.auth as Values | undefined;
  if (!values) return [];
  return [{ what: "mails", run: () => examine(values, platform.mode) }];
}

async function examine(values: Values, mode: Mode): Promise<Finding[]> {
  const { send } = createMailDelivery(values, mode);
  if (values.smtpUrl === undefined) return [ok(send ? "are kept in memory" : "are not sent")];
  try {
    await checkSmtp(values.smtpUrl, mode);
    return [ok("the mail server lets us in")];
  } catch (error) {
    if ((error as { code?: unknown }).code === "EAUTH") {
      return [
        unfit(
          "the mail server refuses the login",
          "see whether user and password in CONCIERGE_AUTH_SMTP_URL are right",
        ),
      ];
    }
    const remedy = "see whether its address and port are right and can be reached from here, and whether it speaks TLS";
    return [absent(`the mail server cannot be used${codeOf(error)}`, remedy)];
  }
}
