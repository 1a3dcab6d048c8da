/** Tables for people to read in a terminal. */

/** A line for the head and each row: the first column to the left, the others to the right. */
export function table(head: string[], rows: (string | number)[][]): string {
  const lines = [head, ...rows].map((row) => row.map(String));
  const widths = head.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)));
  const padded = lines.map((line) => {
    return line.map((cell, column) => (column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)));
  });
  return `${padded.map((line) => line.join("  ")).join("\n")}\n`;
}
