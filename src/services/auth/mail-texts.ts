/**
 * What mails say: plain text, in English. Nothing that a stranger has typed gets in, no name and no `user-agent`:
 * whoever registers somebody else's address must not be able to write to them. But for the name of an organization in
 * an invitation, which says that somebody gave it.
 */
import type { MailKind } from "./mails.ts";

export interface MailText {
  subject: string;
  text: string;
}

/** What a mail tells of. */
export interface MailFacts {
  /** IP address of the call. */
  address: string;
  at: Date;
  /** Unused in a mail without a link. */
  link: string;
  /** As somebody has typed it; of an invitation. */
  organizationName: string;
}

const MAX_NAME_LENGTH = 100;

const PAGES: Partial<Record<MailKind, string>> = {
  verify_email: "verify-email",
  change_email: "verify-email",
  reset_password: "reset-password",
};

/** A mail's link. The token stands in the fragment, which browsers send to nobody. */
export function linkOf(kind: MailKind, baseUrl: string, token: string): string {
  return `${baseUrl.replace(/\/+$/, "")}/${PAGES[kind]}#token=${token}`;
}

/** Where whoever is invited answers. The mail's id is the invitation's, and no secret. */
export function invitationLink(baseUrl: string, id: string): string {
  return `${baseUrl.replace(/\/+$/, "")}/invitations/${id}`;
}

export function textOf(kind: MailKind, { address, at, link, organizationName }: MailFacts): MailText {
  const time = `${at.toISOString().slice(0, 16).replace("T", " ")} UTC`;
  const where = `This happened at ${time} from the address ${address}.`;
  const notYou = "If this was not you, reset your password at once.";
  switch (kind) {
    case "verify_email":
      return mail("Confirm your e-mail address", [
        "Somebody, hopefully you, has made an account with this e-mail address.",
        "To confirm it, open this link within 24 hours:",
        link,
        "If it was not you, do nothing.",
      ]);
    case "change_email":
      return mail("Confirm your new e-mail address", [
        "To use this e-mail address for your account, open this link within 24 hours:",
        link,
        "If you did not ask for this, do nothing.",
      ]);
    case "reset_password":
      return mail("Choose a new password", [
        "To choose a new password for your account, open this link within 10 minutes:",
        link,
        "If you did not ask for this, do nothing: your password stays as it is.",
      ]);
    case "address_taken":
      return mail("You have an account already", [
        "Somebody, perhaps you, has tried to use this e-mail address for an account. There is one with it already.",
        "If it was you, log in, or reset your password if you do not know it. If it was not you, do nothing.",
      ]);
    case "email_change_asked":
      return mail("Your e-mail address is about to change", [
        "A new e-mail address was asked for your account. It takes the place of this one as soon as it is confirmed.",
        where,
        notYou,
      ]);
    case "new_login":
      return mail("A new sign-in to your account", [
        "Somebody has signed in to your account in a new way.",
        where,
        notYou,
      ]);
    case "password_changed":
      return mail("Your password was changed", ["The password of your account was changed.", where, notYou]);
    case "refresh_token_reused":
      return mail("A session of your account was ended", [
        "A session of your account was used in two places at once, as it is when somebody has copied it. It was ended.",
        where,
        notYou,
      ]);
    case "organization_invitation":
      return mail("You are invited to an organization", [
        `Somebody invites you to an organization. This is the name that they gave it: "${harmless(organizationName)}".`,
        "To answer, open this link within seven days, and sign in with an account that has this e-mail address:",
        link,
        "If you do not know what this is about, do nothing.",
      ]);
  }
}

/** What a stranger has typed, without anything that a mail program makes a link of, or that hides something. */
function harmless(name: string): string {
  const words = name.replaceAll(/[^\p{L}\p{M}\p{N}'’&,()+-]+/gu, " ").trim();
  return [...words].slice(0, MAX_NAME_LENGTH).join("");
}

function mail(subject: string, paragraphs: string[]): MailText {
  return { subject, text: `Hello,\n\n${paragraphs.join("\n\n")}\n` };
}
