/** Sending mails through a mail server, by SMTP. */
import { createTransport } from "nodemailer";
import { type Mode, reachOf } from "../../config.ts";
import type { SendMail } from "./mailer.ts";

/** Together well below the time for which a mail is taken. */
const TIMEOUTS = { dnsTimeout: 5_000, connectionTimeout: 5_000, greetingTimeout: 5_000, socketTimeout: 10_000 };

/** Makes the function that sends. `from`: the sender's address. */
export function createSmtp(url: string, from: string, mode: Mode): SendMail {
  const transport = transportTo(url, mode);
  const domain = from.slice(from.lastIndexOf("@") + 1);
  return async ({ id, to, subject, text }) => {
    await transport.sendMail({
      from: { name: "Concierge", address: from },
      // As an object, so that it is one address, whatever characters it has.
      to: { name: "", address: to },
      ...{ subject, text },
      // The same at each try, so that whoever gets it twice can tell.
      messageId: `<${id}@${domain}>`,
      headers: { "auto-submitted": "auto-generated" },
    });
  };
}

/** Connects and logs in, and sends nothing. Rejects with the library's error where a mail could not be sent either. */
export async function checkSmtp(url: string, mode: Mode): Promise<void> {
  await transportTo(url, mode).verify();
}

function transportTo(url: string, mode: Mode) {
  const requireTLS = mustEncrypt(url, mode);
  return createTransport({ url, requireTLS, ...TIMEOUTS, disableFileAccess: true, disableUrlAccess: true });
}

/**
 * Neither a password nor a link leaves the machine in clear; inside a container network they may, outside production.
 */
export function mustEncrypt(url: string, mode: Mode): boolean {
  const reach = reachOf(new URL(url).hostname);
  return reach === "elsewhere" || (reach === "network" && mode === "production");
}
