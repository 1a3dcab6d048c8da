/**
 * gRPC requests as bytes, ready to be sent any number of times. The header blocks are those of Node's own HTTP/2 client,
 * recorded once: Huffman codes, the dynamic table and all, with `authorization` spelt out in each request as real clients
 * do. So a server under load decodes what it decodes in production, and the generator encodes nothing.
 */
import { once } from "node:events";
import http2 from "node:http2";
import net from "node:net";
import { FrameFlag, FrameReader, FrameType, http2Frame, PREFACE } from "../testing/http2-frames.ts";

/** HEADERS and DATA of one call; the stream's id belongs at these two places. */
export interface RecordedRequest {
  bytes: Buffer;
  idPlaces: readonly [number, number];
}

export interface RecordedRequests {
  /** To be sent first on a connection: it fills the dynamic table which the others refer to. */
  first: RecordedRequest;
  /** One for each set of headers, in that order. */
  next: RecordedRequest[];
}

/** Where the stream's id is in a frame. */
const ID_PLACE = 5;
/** MAX_CONCURRENT_STREAMS: as many as there are, so that the client sends all at once. */
const UNLIMITED_STREAMS = Buffer.from([0, 3, 0x7f, 0xff, 0xff, 0xff]);

/** Records a request with each of these sets of headers; all of them carry this body, or each the one of its place. */
export async function recordRequests(
  headers: http2.OutgoingHttpHeaders[],
  body: Buffer | Buffer[],
): Promise<RecordedRequests> {
  const bodies = Array.isArray(body) ? body : headers.map(() => body);
  // The first once more at the end: then it refers to the table, too.
  const [first, ...rest] = await recordHeaderFrames([...headers, headers[0]!]);
  const requests = [rest.at(-1)!, ...rest.slice(0, -1)].map((frame, index) => withBody(frame, bodies[index]!));
  return { first: withBody(first!, bodies[0]!), next: requests };
}

function withBody(headersFrame: Buffer, body: Buffer): RecordedRequest {
  const data = http2Frame(FrameType.data, FrameFlag.endStream, 0, body);
  return {
    bytes: Buffer.concat([headersFrame, data]),
    idPlaces: [ID_PLACE, headersFrame.length + ID_PLACE],
  };
}

/** Lets a client of node:http2 send these headers to nobody, and returns its HEADERS frames. */
async function recordHeaderFrames(headers: http2.OutgoingHttpHeaders[]): Promise<Buffer[]> {
  const frames: Buffer[] = [];
  const { promise: allSeen, resolve } = Promise.withResolvers<void>();
  const server = net.createServer((socket) => {
    const reader = new FrameReader((type, flags, _, bytes, start, end) => {
      if (type === FrameType.headers) frames.push(http2Frame(type, flags, 0, bytes.subarray(start, end)));
      if (frames.length === headers.length) resolve();
    });
    let toSkip = PREFACE.length;
    socket
      .on("error", () => {})
      .on("data", (chunk) => {
        const skipped = Math.min(toSkip, chunk.length);
        toSkip -= skipped;
        reader.push(chunk.subarray(skipped));
      });
    socket.write(http2Frame(FrameType.settings, 0, 0, UNLIMITED_STREAMS));
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const session = http2.connect(`http://127.0.0.1:${(server.address() as net.AddressInfo).port}`);
  await once(session, "remoteSettings");
  for (const one of headers) session.request(one, { endStream: false }).on("error", () => {});
  await allSeen;
  session.destroy();
  server.close();
  return frames;
}
