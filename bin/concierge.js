#!/usr/bin/env node
/** The command `concierge`: in a clone the source as it is, in the package what was compiled from it. */
import { existsSync } from "node:fs";

const source = new URL("../src/main.ts", import.meta.url);
await import(existsSync(source) ? source.href : "../dist/src/main.js");
