/** What `make bench/rpc` prints. */
import { FRAME_HEADER_BYTES } from "../testing/wire.ts";
import { type Goal, goalLine, infoLine, machineLine, median, quantile } from "./figures.ts";
import type { ServerProcess } from "./rpc-servers/process.ts";
import { SERVER_NAMES, type ServerName } from "./rpc-servers/task.ts";
import { TOKEN_USES, type TokenUse, type Work } from "./rpc-work.ts";

/** A server with what was measured of it. */
export interface Contender {
  server: ServerProcess;
  figures: Record<TokenUse, Figures>;
  /** Good ones, in all. */
  calls: number;
}

/** One value for each round. */
interface Figures {
  cpuMicrosecondsPerCall: number[];
  callsPerSecond: number[];
  /** Share of a core that the load generator took. */
  generatorBusy: number[];
  /** At half load, from when each call was due. */
  latenciesMs: Float64Array[];
  /** By how much the generator itself was late then. */
  lagsMs: Float64Array[];
}

export function newFigures(): Record<TokenUse, Figures> {
  const figures = (): Figures => ({
    cpuMicrosecondsPerCall: [],
    callsPerSecond: [],
    generatorBusy: [],
    latenciesMs: [],
    lagsMs: [],
  });
  return { "one-token": figures(), "1000-tokens": figures() };
}

/** What is printed and compared of a server, a value for each round. */
interface Columns {
  cpu: number[];
  throughput: number[];
  generatorBusy: number[];
  p50: number[];
  p99: number[];
  lagP99: number[];
}

function columnsOf({ cpuMicrosecondsPerCall, callsPerSecond, generatorBusy, latenciesMs, lagsMs }: Figures): Columns {
  return {
    cpu: cpuMicrosecondsPerCall,
    throughput: callsPerSecond,
    generatorBusy,
    p50: latenciesMs.map((round) => quantile(round, 0.5)),
    p99: latenciesMs.map((round) => quantile(round, 0.99)),
    lagP99: lagsMs.map((round) => quantile(round, 0.99)),
  };
}

/** The lines to print: machine, raw figures, goals, other ratios. */
export function report(contenders: Contender[], { token, answer }: Work): string[] {
  const work = `access token ${token.length} bytes, answer ${answer.length - FRAME_HEADER_BYTES} bytes`;
  const lines = [machineLine(), `${work}; figures and ratios are medians of ${roundsOf(contenders)} rounds`];
  const ratios: string[] = [];
  for (const use of TOKEN_USES) {
    const columns = new Map(contenders.map(({ server, figures }) => [server.name, columnsOf(figures[use])]));
    const of = (name: ServerName) => columns.get(name)!;
    lines.push("", HEADER.replace("{use}", use.padEnd(15)), ...SERVER_NAMES.map((name) => rawLine(name, of(name))));
    ratios.push(...goals(use, of).map((goal) => goalLine("P1", goal)), ...otherRatios(use, of));
  }
  return [...lines, "", ...ratios];
}

function roundsOf(contenders: Contender[]): number {
  return contenders[0]!.figures["one-token"].callsPerSecond.length;
}

const HEADER = "{use}  calls/s  CPU us/call | half load: p50 ms  p99 ms | generator: busy  late p99 ms";

function rawLine(name: ServerName, columns: Columns): string {
  const number = (column: keyof Columns, digits: number, width: number) =>
    median(columns[column]).toFixed(digits).padStart(width);
  const server = `${name.padEnd(15)} ${number("throughput", 0, 8)} ${number("cpu", 1, 12)}`;
  const steady = `${number("p50", 2, 17)} ${number("p99", 2, 7)}`;
  const generator = `${number("generatorBusy", 2, 15)} ${number("lagP99", 2, 12)}`;
  return `${server} | ${steady} | ${generator}`;
}

/** The median of the rounds' own ratios: two turns of one round are close in time, and so under the same weather. */
function ratio(ours: number[], others: number[]): number {
  return median(ours.map((value, round) => value / others[round]!));
}

function goals(use: TokenUse, of: (name: ServerName) => Columns): Goal[] {
  const [ours, chain, adapter] = [of("ours"), of("grpc-js-chain"), of("connect-adapter")];
  const throughput = ratio(ours.throughput, chain.throughput);
  return [
    { what: `cpu/grpc-js-chain/${use}`, ratio: ratio(ours.cpu, chain.cpu), bound: 1, better: "lower" },
    { what: `cpu/connect-adapter/${use}`, ratio: ratio(ours.cpu, adapter.cpu), bound: 0.5, better: "lower" },
    { what: `throughput/grpc-js-chain/${use}`, ratio: throughput, bound: 1, better: "higher" },
  ];
}

/** The ratios of ours to every other server that no goal is set on. */
function otherRatios(use: TokenUse, of: (name: ServerName) => Columns): string[] {
  const ours = of("ours");
  const goalNames = goals(use, of).map(({ what }) => what);
  const ratios = SERVER_NAMES.filter((name) => name !== "ours").flatMap((name): [what: string, ratio: number][] => [
    [`cpu/${name}/${use}`, ratio(ours.cpu, of(name).cpu)],
    [`throughput/${name}/${use}`, ratio(ours.throughput, of(name).throughput)],
    [`p99-at-half-load/${name}/${use}`, ratio(ours.p99, of(name).p99)],
  ]);
  return ratios.filter(([what]) => !goalNames.includes(what)).map(([what, value]) => infoLine("P1", what, value));
}
