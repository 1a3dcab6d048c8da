/**
 * The same small server behind each of the guards: /me for whoever is signed in, until the token expires if nobody can tell;
 * /orders for who holds orders:read; /public for everybody. The answer names the caller in a header.
 */
import { once } from "node:events";
import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { fromBinary } from "@bufbuild/protobuf";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { getRequestListener } from "@hono/node-server";
import express from "express";
import fastify from "fastify";
import { Hono } from "hono";
import { AccessService } from "../../../gen/concierge/access/v1/access_service_pb.ts";
import { ErrorInfoSchema } from "../../../gen/google/rpc/error_details_pb.ts";
import { type HttpAnswer, sendHttp } from "../../testing/http.ts";
import type { GuardClient } from "./decision.ts";
import {
  connectGuard,
  expressGuards,
  fastifyGuards,
  type HonoVariables,
  honoGuards,
  type Principal,
  principalOf,
  requirePermission,
  requireUser,
  rulesOf,
} from "./index.ts";

export const PERMISSION = "orders:read";
const PATIENT = { whenStale: "until_expiry" } as const;
const CALLER_HEADER = "x-caller";

export type GuardedPath = "/me" | "/orders" | "/public";

/** What a guarded server said. */
export interface GuardedAnswer {
  status: number;
  /** The code in words, and our reason, of a refusal. */
  code?: string;
  reason?: string;
  /** Id of the user whom the handler saw. */
  caller?: string;
  wwwAuthenticate?: string;
  retryAfter?: string;
  /** Everything that was sent, to look for what must not be there. */
  text: string;
}

export interface GuardedServer extends AsyncDisposable {
  readonly name: string;
  send(path: GuardedPath, ...headers: (readonly [name: string, value: string])[]): Promise<GuardedAnswer>;
}

declare module "fastify" {
  interface FastifyRequest {
    principal?: Principal;
  }
}

/** One for each guard. */
export async function startGuardedServers(auth: GuardClient): Promise<GuardedServer[]> {
  return Promise.all([
    startGuarded("Connect", behindConnect(auth), CONNECT_CALLS),
    startGuarded("Express", behindExpress(auth)),
    startGuarded("Fastify", await behindFastify(auth)),
    startGuarded("Hono", behindHono(auth)),
  ]);
}

function behindConnect(auth: GuardClient): RequestListener {
  const rules = rulesOf(AccessService, {
    getMyRoles: requireUser(PATIENT),
    getMyPermissions: requirePermission(PERMISSION),
    listPermissions: "public",
  });
  return connectNodeAdapter({
    ...connectGuard(auth, rules),
    routes: ({ service }) => {
      service(AccessService, {
        getMyRoles(_, context) {
          context.responseHeader.set(CALLER_HEADER, principalOf(context).userId);
          return {};
        },
        getMyPermissions(_, context) {
          context.responseHeader.set(CALLER_HEADER, principalOf(context).userId);
          return {};
        },
        listPermissions: () => ({}),
      });
    },
  });
}

function behindExpress(auth: GuardClient): RequestListener {
  const { requireUser, requirePermission } = expressGuards(auth);
  const answer: express.RequestHandler = (request, response) => {
    response.setHeader(CALLER_HEADER, request.principal!.userId).json({});
  };
  const app = express();
  app.get("/me", requireUser(PATIENT), answer);
  app.get("/orders", requirePermission(PERMISSION), answer);
  app.get("/public", (_, response) => void response.json({}));
  return app;
}

async function behindFastify(auth: GuardClient): Promise<RequestListener> {
  const { requireUser, requirePermission } = fastifyGuards(auth);
  const app = fastify();
  app.get("/me", { onRequest: requireUser(PATIENT) }, (request, reply) =>
    reply.header(CALLER_HEADER, request.principal!.userId).send({}),
  );
  app.get("/orders", { preHandler: requirePermission(PERMISSION) }, (request, reply) =>
    reply.header(CALLER_HEADER, request.principal!.userId).send({}),
  );
  app.get("/public", () => ({}));
  await app.ready();
  return (request, response) => app.routing(request, response);
}

function behindHono(auth: GuardClient): RequestListener {
  const { requireUser, requirePermission } = honoGuards(auth);
  const app = new Hono<{ Variables: HonoVariables }>();
  app.get("/me", requireUser(PATIENT), (context) => {
    return context.json({}, 200, { [CALLER_HEADER]: context.get("principal").userId });
  });
  app.get("/orders", requirePermission(PERMISSION), (context) => {
    return context.json({}, 200, { [CALLER_HEADER]: context.get("principal").userId });
  });
  app.get("/public", (context) => context.json({}));
  return getRequestListener(app.fetch);
}

/** What stands for the paths in Connect's protocol. */
const CONNECT_CALLS: Record<GuardedPath, string> = {
  "/me": `/${AccessService.typeName}/GetMyRoles`,
  "/orders": `/${AccessService.typeName}/GetMyPermissions`,
  "/public": `/${AccessService.typeName}/ListPermissions`,
};

async function startGuarded(
  name: string,
  listener: RequestListener,
  calls?: Record<GuardedPath, string>,
): Promise<GuardedServer> {
  const server: Server = createServer(listener).listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    name,
    async send(path, ...headers) {
      const request = calls
        ? {
            ...{ httpMethod: "POST", path: calls[path], body: Buffer.from("{}") },
            headers: [["content-type", "application/json"] as const, ...headers],
          }
        : { httpMethod: "GET", path, headers };
      return readAnswer(await sendHttp("1.1", url, request));
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

function readAnswer({ status, headers, body }: HttpAnswer): GuardedAnswer {
  const header = (wanted: string) => headers.find(([name]) => name === wanted)?.[1];
  const text = body.toString();
  const { code, reason, details = [] } = JSON.parse(text);
  // Connect carries our reason in the standard detail.
  const [info] = details
    .filter(({ type }: { type: string }) => type === ErrorInfoSchema.typeName)
    .map(({ value }: { value: string }) => fromBinary(ErrorInfoSchema, Buffer.from(value, "base64")));
  return {
    ...{ status, code, reason: reason ?? info?.reason, caller: header(CALLER_HEADER) },
    ...{
      wwwAuthenticate: header("www-authenticate"),
      retryAfter: header("retry-after"),
      text: JSON.stringify(headers) + text,
    },
  };
}
