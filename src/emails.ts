/** E-mail addresses: which spellings are one address. */

/** The form of an address that is compared: lower case, normal form C. */
export function emailKeyOf(email: string): string {
  return email.normalize("NFC").toLowerCase();
}
