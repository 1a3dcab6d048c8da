/** What commands say when a server refuses a call, or when nobody answers: one line for people, and an exit code. */
import { Code, ConnectError } from "@connectrpc/connect";
import { ExitCode, reasonOf, StartupError } from "../errors.ts";

/** Awaits the answer of a call to `url`; turns its refusal into a StartupError with code, reason and message. */
export async function answerOf<T>(url: string, answer: Promise<T>): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    if (!(error instanceof ConnectError)) throw error;
    const distrust = certificateProblemOf(error);
    if (distrust !== undefined) {
      const remedy = "--ca, or CONCIERGE_PEER_CA_PATH, names its authority";
      throw new StartupError(`the certificate of ${url} is not trusted (${distrust}); ${remedy}`, ExitCode.failure);
    }
    if (error.code === Code.Unavailable && !error.isWireError) {
      throw new StartupError(`nothing answers at ${url}: is it running?`, ExitCode.unavailable);
    }
    throw new StartupError(describeRefusal(error), ExitCode.failure);
  }
}

/** The code of node:tls, such as "CERT_HAS_EXPIRED", where that is what went wrong. */
function certificateProblemOf({ cause }: Error): string | undefined {
  if (!(cause instanceof Error)) return undefined;
  const { code } = cause as NodeJS.ErrnoException;
  return typeof code === "string" && /CERT|UNABLE_TO_VERIFY/.test(code) ? code : certificateProblemOf(cause);
}

/** For example "NotFound ROLE_NOT_FOUND: there is no such role". */
export function describeRefusal(error: ConnectError): string {
  const reason = reasonOf(error);
  return `${Code[error.code]}${reason ? ` ${reason}` : ""}: ${error.rawMessage}`;
}
