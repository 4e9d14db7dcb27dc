/**
 * A contender in JavaScript, as a process: `child.mjs DRIVER LIBRARY KIND
 * SCENARIO ...`.
 *
 * - DRIVER is a module beside this one, for example `lockers/portalock`.
 * - LIBRARY is the file that the driver uses, or empty if the driver imports
 *   it.
 * - KIND of a locker is `sync` or `async`, of an updater `durable` or
 *   `not durable`.
 * - SCENARIO is the module beside this one that does the work and returns the
 *   result, which this module prints.
 */

import process from "node:process";
import { pathToFileURL } from "node:url";
import { send } from "./messages.mjs";

const [driver, library, kind, scenario, ...args] = process.argv.slice(2);
const { makeSync, make, connect } = await import(`./${driver}.mjs`);
const loaded = library ? await import(pathToFileURL(library).href) : undefined;
const { default: measure } = await import(`./${scenario}.mjs`);
const isSync = kind === "sync";
const maker = isSync ? makeSync : make;
const result = await measure(
  {
    isSync,
    /** @param {string} path */
    make: (path) => maker(path, loaded, kind),
    /** @param {string} url */
    connect: (url) => connect(url, loaded),
  },
  ...args,
);
send({ runtime: runtime(), ...result });

function runtime() {
  const { bun, deno, node } = process.versions;
  return bun ? `Bun ${bun}` : deno ? `Deno ${deno}` : `Node ${node}`;
}
