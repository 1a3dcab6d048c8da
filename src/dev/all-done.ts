/** Waiting for several things at once, when all of them use something that a failure closes. */

/** Like Promise.all(), but fails only when all have ended: then what they use may be closed. */
export async function allDone<T extends readonly unknown[]>(
  work: [...T],
): Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }> {
  await Promise.allSettled(work);
  return Promise.all(work);
}
