/** What greeter says. */

/** The greeting for a name. */
export function greet(name: string): string {
  return `Hello, ${name}!`;
}
