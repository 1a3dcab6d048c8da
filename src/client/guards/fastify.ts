/**
 * Guards as hooks of Fastify: for `preHandler`, or for `onRequest`, where strangers' bodies are not even read. For types,
 * a program declares once: declare module "fastify" { interface FastifyRequest { principal?: Principal } }
 */
import type { Principal } from "../results.ts";
import { admit, type GuardClient, type Guards, guardsBy, refusalOf } from "./decision.ts";

interface FastifyRequest {
  raw: { rawHeaders: string[] };
  principal?: Principal;
}

interface FastifyReply {
  code(status: number): unknown;
  headers(headers: Record<string, string>): unknown;
  send(body: string): unknown;
}

export type FastifyHook = (request: FastifyRequest, reply: FastifyReply) => Promise<unknown>;

/** Each sets the principal: `request.principal`. */
export function fastifyGuards(auth: GuardClient): Guards<FastifyHook> {
  return guardsBy((rule) => async (request, reply) => {
    try {
      request.principal = await admit(auth, rule, request.raw.rawHeaders);
    } catch (refused) {
      const { status, headers, body } = refusalOf(refused);
      reply.code(status);
      reply.headers(headers);
      reply.send(body);
      // Tells Fastify that the answer is given.
      return reply;
    }
    return undefined;
  });
}
