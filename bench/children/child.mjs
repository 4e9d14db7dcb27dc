/**
 * A contender in JavaScript, as a process: `child.mjs LOCKER LIBRARY KIND
 * SCENARIO ...`. LOCKER is a module of `lockers/`, LIBRARY the file it drives
 * if it does not know itself, KIND `sync` or `async`.
 */

import process from "node:process";
import { pathToFileURL } from "node:url";
import { uncontended } from "./uncontended.mjs";

const SCENARIOS = { uncontended };

const [locker, library, kind, scenario, ...args] = process.argv.slice(2);
const { makeSync, make } = await import(`../lockers/${locker}.mjs`);
const driven = library === "" ? undefined : await import(
  pathToFileURL(library).href
);
const result = await SCENARIOS[scenario](
  { isSync: kind === "sync", make: kind === "sync" ? makeSync : make, driven },
  ...args,
);
console.log(JSON.stringify({ runtime: runtime(), ...result }));

function runtime() {
  const { bun, deno, node } = process.versions;
  return bun ? `Bun ${bun}` : deno ? `Deno ${deno}` : `Node ${node}`;
}
