/** What a command gets of the process it runs in. main.ts makes it from the real one; nothing else reads `process`. */
export interface Host {
  env: Record<string, string | undefined>;
  /** The program that runs us and our main file, to start another process of ours. */
  node: string;
  mainFile: string;
  /** Writes to standard output, or to standard error. */
  print(text: string): void;
  warn(text: string): void;
  /** Physical memory of the process. */
  residentBytes(): number;
  /** Aborts at the first SIGINT or SIGTERM. */
  stop: AbortSignal;
  /** Resolves when standard input ends: when the process that started us is gone. */
  inputEnded(): Promise<void>;
}

/** Resolves when the signal aborts. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
