/** E-mail addresses: which spellings are one address. */

/** The form of an address that is compared: lower case, normal form C. */
export function emailKeyOf(email: string): string {
  return email.normalize("NFC").toLowerCase();
}

/** The same without a +tag: with many providers, whatever follows the plus goes to one inbox. */
export function inboxKeyOf(email: string): string {
  return emailKeyOf(email).replace(/(?<=.)\+.*(?=@)/, "");
}
