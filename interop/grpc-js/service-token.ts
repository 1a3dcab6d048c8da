/**
 * How Concierge knows who calls: each call carries a token for its procedure and its message, signed with the caller's key.
 * Plain enough to be copied: it needs grpc-js and Node only.
 */
import { createHash, createHmac, randomUUID } from "node:crypto";
import { InterceptingCall, type Interceptor } from "@grpc/grpc-js";

/** An entry of the file that `concierge keys add-caller` writes. */
export interface ServiceKey {
  kid: string;
  caller: string;
  callee: string;
  secret: string;
}

export function sign(key: ServiceKey, procedure: string, message: Buffer): string {
  const encode = (part: object) => Buffer.from(JSON.stringify(part)).toString("base64url");
  const now = Math.floor(Date.now() / 1000);
  const claims = {
    ...{ iss: key.caller, aud: key.callee, proc: procedure },
    ...{ iat: now, exp: now + 30, jti: randomUUID() },
    bd: createHash("sha256").update(message).digest("base64url"),
  };
  const signed = `${encode({ alg: "HS256", typ: "svc+jwt", kid: key.kid })}.${encode(claims)}`;
  const secret = Buffer.from(key.secret, "base64url");
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}

/** Signs every unary call of a client. */
export function serviceTokens(key: ServiceKey): Interceptor {
  return (options, nextCall) => {
    const { path, requestSerialize } = options.method_definition;
    let send = (_token: string) => {};
    return new InterceptingCall(nextCall(options), {
      // The headers wait for the message: it is in their token.
      start(metadata, listener, next) {
        send = (token) => {
          metadata.set("service-token", token);
          next(metadata, listener);
        };
      },
      sendMessage(message, next) {
        send(sign(key, path, requestSerialize(message)));
        next(message);
      },
    });
  };
}
