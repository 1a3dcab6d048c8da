import assert from "node:assert/strict";
import { test } from "node:test";
import { parseTraceparent, parseTracestate } from "./trace-context.ts";

const TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN_ID = "00f067aa0ba902b7";
const TRACEPARENT = `00-${TRACE_ID}-${SPAN_ID}-01`;

test("a traceparent names the trace, the parent, and whether it is recorded", () => {
  const parent = { traceId: TRACE_ID, spanId: SPAN_ID, isSampled: true };
  assert.deepEqual(parseTraceparent({ traceparent: TRACEPARENT }), parent);
  for (const [flags, isSampled] of [
    ["00", false],
    ["03", true],
    ["fe", false],
    ["ff", true],
  ] as const) {
    assert.deepEqual(parseTraceparent({ traceparent: TRACEPARENT.replace(/01$/, flags) }), { ...parent, isSampled });
  }
});

test("a traceparent of a later version is read as far as it is known", () => {
  for (const traceparent of [TRACEPARENT.replace(/^00/, "01"), `${TRACEPARENT.replace(/^00/, "cc")}-what-comes`]) {
    assert.deepEqual(parseTraceparent({ traceparent }), { traceId: TRACE_ID, spanId: SPAN_ID, isSampled: true });
  }
});

const hostile: [what: string, traceparent: string | string[]][] = [
  ["nothing", ""],
  ["words", "canary"],
  ["capitals", TRACEPARENT.toUpperCase()],
  ["no trace", `00-${"0".repeat(32)}-${SPAN_ID}-01`],
  ["no parent", `00-${TRACE_ID}-${"0".repeat(16)}-01`],
  ["a forbidden version", TRACEPARENT.replace(/^00/, "ff")],
  ["a version that is no number", TRACEPARENT.replace(/^00/, "0x")],
  ["more than version 00 has", `${TRACEPARENT}-canary`],
  ["a dash more", `${TRACEPARENT}-`],
  ["a later version without a dash", `${TRACEPARENT.replace(/^00/, "01")}canary`],
  ["a digit less", TRACEPARENT.slice(0, -1)],
  ["a trace of 31 digits", TRACEPARENT.replace("4bf", "4b")],
  ["a letter that is no digit", TRACEPARENT.replace("4bf", "4bg")],
  ["flags that are no digits", TRACEPARENT.replace(/01$/, "zz")],
  ["blanks around it", ` ${TRACEPARENT} `],
  ["a line break behind it", `${TRACEPARENT}\n`],
  ["two of them", `${TRACEPARENT}, ${TRACEPARENT}`],
  ["a list", [TRACEPARENT, TRACEPARENT]],
  ["a megabyte", `${TRACEPARENT.replace(/^00/, "01")}-${"0".repeat(1024 * 1024)}`],
  ["a megabyte of dashes", "-".repeat(1024 * 1024)],
];
for (const [what, traceparent] of hostile) {
  test(`a traceparent of ${what} counts as none`, () => {
    assert.equal(parseTraceparent({ traceparent } as Record<string, string>), undefined);
  });
}

const members = (count: number) => Array.from({ length: count }, (_, index) => `k${index}=v`).join(",");
const states: [what: string, sent: string, handedOn: string | undefined][] = [
  ["one member", "vendor=value", "vendor=value"],
  ["blanks and gaps", " a=1 ,, b@tenant=2\t", "a=1,b@tenant=2"],
  ["32 members", members(32), members(32)],
  ["33 members", members(33), undefined],
  ["10,000 members", members(10_000), undefined],
  ["a member without a value", "a=,b=1", undefined],
  ["a member without a key", "=1", undefined],
  ["a key in capitals", "Vendor=1", undefined],
  ["a value with a control character", "a=\x01", undefined],
  ["a value with an equals sign", "a=b=c", undefined],
  ["something that is no ASCII", "a=\u00fc", undefined],
  ["513 characters", `a=${"x".repeat(255)},b=${"x".repeat(253)}`, undefined],
  ["nothing", "", undefined],
  ["gaps only", ",,,", undefined],
];
for (const [what, tracestate, handedOn] of states) {
  test(`a tracestate of ${what} is handed on ${handedOn === undefined ? "not at all" : "in order"}`, () => {
    assert.equal(parseTracestate({ tracestate }), handedOn);
  });
}
