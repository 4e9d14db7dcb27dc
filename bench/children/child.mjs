/**
 * A contender in JavaScript, as a process: `child.mjs LOCKER LIBRARY KIND
 * SCENARIO ...`. LOCKER is a module of `lockers/`, LIBRARY the file it drives
 * if it does not know itself, KIND `sync` or `async`. SCENARIO is the module
 * beside this one that does the work and returns what is to be printed.
 */

import process from "node:process";
import { pathToFileURL } from "node:url";
import { say } from "./talk.mjs";

const [locker, library, kind, scenario, ...args] = process.argv.slice(2);
const { makeSync, make } = await import(`../lockers/${locker}.mjs`);
const driven = library === "" ? undefined : await import(
  pathToFileURL(library).href
);
const { default: play } = await import(`./${scenario}.mjs`);
const isSync = kind === "sync";
const maker = isSync ? makeSync : make;
const result = await play(
  { isSync, make: (path) => maker(path, driven) },
  ...args,
);
say({ runtime: runtime(), ...result });

function runtime() {
  const { bun, deno, node } = process.versions;
  return bun ? `Bun ${bun}` : deno ? `Deno ${deno}` : `Node ${node}`;
}
