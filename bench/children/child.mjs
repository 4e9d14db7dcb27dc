/**
 * A contender in JavaScript, as a process: `child.mjs DRIVER LIBRARY KIND
 * SCENARIO ...`. DRIVER is a module, as `lockers/portalock`, LIBRARY the file
 * it drives if it does not know itself, KIND of a locker `sync` or `async`, of
 * an updater `durable` or `not durable`. SCENARIO is the module beside this one
 * that does the work and returns what is to be printed.
 */

import process from "node:process";
import { pathToFileURL } from "node:url";
import { say } from "./talk.mjs";

const [driver, library, kind, scenario, ...args] = process.argv.slice(2);
const { makeSync, make } = await import(`../${driver}.mjs`);
const driven = library === "" ? undefined : await import(
  pathToFileURL(library).href
);
const { default: play } = await import(`./${scenario}.mjs`);
const isSync = kind === "sync";
const maker = isSync ? makeSync : make;
const result = await play(
  { isSync, make: (path) => maker(path, driven, kind) },
  ...args,
);
say({ runtime: runtime(), ...result });

function runtime() {
  const { bun, deno, node } = process.versions;
  return bun ? `Bun ${bun}` : deno ? `Deno ${deno}` : `Node ${node}`;
}
