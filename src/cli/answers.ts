/** What commands say when a server refuses a call, or when nobody answers: one line for people, and an exit code. */
import { Code, ConnectError } from "@connectrpc/connect";
import { ExitCode, reasonOf, StartupError } from "../errors.ts";

/** Awaits the answer of a call to `url`; turns its refusal into a StartupError with code, reason and message. */
export async function answerOf<T>(url: string, answer: Promise<T>): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    if (!(error instanceof ConnectError)) throw error;
    if (error.code === Code.Unavailable && !error.isWireError) {
      throw new StartupError(`nothing answers at ${url}: is it running?`, ExitCode.unavailable);
    }
    const reason = reasonOf(error);
    throw new StartupError(`${Code[error.code]}${reason ? ` ${reason}` : ""}: ${error.rawMessage}`, ExitCode.failure);
  }
}
