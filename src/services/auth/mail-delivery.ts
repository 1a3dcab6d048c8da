/** Where the mails of this process go: to a mail server, in development without one into memory, or nowhere. */
import { type Mode, snakeCase, type ValuesOf } from "../../config.ts";
import { StartupError } from "../../errors.ts";
import type { RequestHandler } from "../../listener/listener.ts";
import type { config } from "./config.ts";
import { MailSink } from "./mail-sink.ts";
import type { SendMail } from "./mailer.ts";
import { createSmtp } from "./smtp.ts";

export interface MailDelivery {
  /** Undefined where no mails are sent. */
  send: SendMail | undefined;
  /** What links begin with. */
  linkBaseUrl: string;
  /** Whether an account can be used only once its address is verified. */
  requireEmailVerification: boolean;
  /** Pages that show mails. */
  pages: Record<string, RequestHandler>;
}

type Values = Pick<ValuesOf<typeof config>, "smtpUrl" | "mailFrom" | "linkBaseUrl" | "requireEmailVerification">;

const DEVELOPMENT_LINKS = "http://127.0.0.1:3000";

/** Throws a StartupError that names what is missing. */
export function createMailDelivery(values: Values, mode: Mode): MailDelivery {
  const requireEmailVerification = values.requireEmailVerification ?? mode !== "development";
  const common = { requireEmailVerification, pages: {} };
  if (values.smtpUrl !== undefined) {
    const why = `it is needed where ${nameOf("smtpUrl")} is set`;
    const from = values.mailFrom ?? missing("mailFrom", why);
    const linkBaseUrl = values.linkBaseUrl ?? missing("linkBaseUrl", why);
    return { ...common, send: createSmtp(values.smtpUrl, from, mode), linkBaseUrl };
  }
  const linkBaseUrl = values.linkBaseUrl ?? DEVELOPMENT_LINKS;
  if (mode === "development") {
    const { send, pages } = new MailSink();
    return { ...common, send, linkBaseUrl, pages };
  }
  if (requireEmailVerification) {
    missing("smtpUrl", `without it no address is verified; or set ${nameOf("requireEmailVerification")}=false`);
  }
  return { ...common, send: undefined, linkBaseUrl };
}

function missing(key: keyof Values, why: string): never {
  throw new StartupError(`${nameOf(key)} is missing: ${why}`);
}

function nameOf(key: keyof Values): string {
  return `CONCIERGE_AUTH_${snakeCase(key)}`;
}
