/**
 * What a web page does with Concierge, through @connectrpc/connect-web and the generated clients. Bundled for the browser,
 * where the test calls `concierge.<action>(...)`; what goes in and what comes out is plain JSON.
 */
import { type Client, Code, ConnectError, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { AuthService } from "../../gen/concierge/auth/v1/auth_service_pb.ts";
import { GreeterService } from "../../gen/concierge/greeter/v1/greeter_service_pb.ts";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import { sessionActions } from "./session-page.ts";

export interface Via {
  protocol: "connect" | "grpc-web";
  /** The public listener. */
  baseUrl: string;
  accessToken?: string;
  /** Sends methods without side effects as GET (Connect only). */
  useHttpGet?: boolean;
}

/** What the page can read of a failed call. */
export interface Failure {
  code: string;
  /** ErrorInfo's reason, from the error's details. */
  reason: string | undefined;
  message: string;
  requestId: string | null;
}

/** How a call ended: exactly one of the two is set. */
export interface Outcome<T> {
  value?: T;
  failure?: Failure;
}

const TIMEOUT_MS = 10_000;

function transportOf({ protocol, baseUrl, accessToken, useHttpGet = false }: Via): Transport {
  const authorize: Interceptor = (next) => (request) => {
    if (accessToken !== undefined) request.header.set("authorization", `Bearer ${accessToken}`);
    return next(request);
  };
  const options = { baseUrl, interceptors: [authorize], defaultTimeoutMs: TIMEOUT_MS };
  return protocol === "connect" ? createConnectTransport({ ...options, useHttpGet }) : createGrpcWebTransport(options);
}

const authOf = (via: Via): Client<typeof AuthService> => createClient(AuthService, transportOf(via));
const greeterOf = (via: Via): Client<typeof GreeterService> => createClient(GreeterService, transportOf(via));

async function outcomeOf<T>(work: Promise<T>): Promise<Outcome<T>> {
  try {
    return { value: await work };
  } catch (thrown) {
    const error = ConnectError.from(thrown);
    const reason = error.findDetails(ErrorInfoSchema)[0]?.reason;
    const requestId = error.metadata.get("x-request-id");
    return { failure: { code: Code[error.code], reason, message: error.rawMessage, requestId } };
  }
}

async function signUp(via: Via, person: { email: string; password: string }): Promise<{ accessToken: string }> {
  const auth = authOf(via);
  await auth.registerUser({ ...person, firstName: "Ann", lastName: "Lee" });
  const { accessToken } = await auth.login(person);
  return { accessToken };
}

async function greet(via: Via, name: string): Promise<{ message: string; requestId: string | null }> {
  let requestId: string | null = null;
  const onHeader = (headers: Headers) => {
    requestId = headers.get("x-request-id");
  };
  const { message } = await greeterOf(via).sayHello({ name }, { onHeader });
  return { message, requestId };
}

async function greetAgain(via: Via, name: string, count: number): Promise<string[]> {
  const messages: string[] = [];
  for await (const { message } of greeterOf(via).sayHelloStream({ name, count })) messages.push(message);
  return messages;
}

/** Reads the first of two greetings, and leaves before the second, which is due in ten seconds. */
async function greetOnce(via: Via, name: string): Promise<string | undefined> {
  const leaving = new AbortController();
  const request = { name, count: 2, interval: { seconds: 10n } };
  for await (const { message } of greeterOf(via).sayHelloStream(request, { signal: leaving.signal })) {
    // Ending the loop alone would leave the request open until the deadline.
    leaving.abort();
    return message;
  }
  return undefined;
}

async function download(url: string): Promise<{ status: number; body: string }> {
  const response = await fetch(url);
  return { status: response.status, body: await response.text() };
}

const actions = {
  ...sessionActions,
  signUp: (via: Via, person: { email: string; password: string }) => outcomeOf(signUp(via, person)),
  greet: (via: Via, name: string) => outcomeOf(greet(via, name)),
  greetAgain: (via: Via, name: string, count: number) => outcomeOf(greetAgain(via, name, count)),
  greetOnce: (via: Via, name: string) => outcomeOf(greetOnce(via, name)),
  download: (url: string) => outcomeOf(download(url)),
};

export type Actions = typeof actions;

Object.assign(globalThis, { concierge: actions });
