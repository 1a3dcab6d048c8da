/** Writes a path as one word of a shell, for printed lines that are to be pasted. */
export function quoted(path: string): string {
  return /^[\w./-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}
