/** The mails of a system without a mail server, as the pages of its internal listener show them. */
import type { TestSystem } from "./system.ts";
import { until } from "./until.ts";

export interface SunkMail {
  id: string;
  to: string;
  subject: string;
  text: string;
}

/** What was sent to an address so far, the newest first. */
export async function mailsTo({ internalUrl }: Pick<TestSystem, "internalUrl">, address: string): Promise<SunkMail[]> {
  const response = await fetch(`${internalUrl}/dev/mails.json`, { headers: { connection: "close" } });
  const { mails } = (await response.json()) as { mails: SunkMail[] };
  return mails.filter(({ to }) => to === address);
}

/** Waits for a mail with this subject to an address; the newest. */
export function mailTo(system: Pick<TestSystem, "internalUrl">, address: string, subject: string): Promise<SunkMail> {
  return until(`the mail "${subject}"`, async () => {
    return (await mailsTo(system, address)).find((mail) => mail.subject === subject);
  });
}

/** The token in a mail's link. */
export function tokenIn(text: string): string {
  const found = /#token=([\w-]{43})$/m.exec(text);
  if (!found) throw new Error("the mail has no link");
  return found[1]!;
}
