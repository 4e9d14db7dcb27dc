/** The commands of contenders, `undefined` where what they need is missing. */

import { join } from "node:path";
import { root, runtimes, systemNode } from "../scripts/setup.mjs";
import { findPython } from "./peers.mjs";

/** What Deno needs to lock without calling C, and nothing else. */
const WITHOUT_FFI = ["--no-prompt", "--allow-read", "--allow-write"];

export const RUNTIMES = {
  deno: "Deno",
  bun: "Bun",
  node: "Node with koffi",
  node26: "Node 26",
};

/** This package on one of the `RUNTIMES`. */
export function ourCommand(name, driver, kind, withoutFfi = false) {
  return moduleCommand(
    name,
    [],
    driver,
    kind,
    (command) =>
      withoutFfi
        ? command.flatMap((word) => word === "-A" ? WITHOUT_FFI : [word])
        : command,
  );
}

/** Its locks in Redis on one of them. */
export function ourRedisCommand(name, driver) {
  return moduleCommand(name, ["src", "redis"], driver, "async");
}

/** Its bindings to the system alone. */
export function bareCommand(name, driver) {
  return moduleCommand(name, ["ffi"], driver, "sync");
}

function moduleCommand(name, folders, driver, kind, permit = (all) => all) {
  const runtime = findRuntime(name);
  if (!runtime) return undefined;
  const { command, directory, extension } = runtime;
  const module = join(directory, ...folders, `mod${extension}`);
  return script(permit(command), driver, kind, module);
}

/** This package on each of them. */
export function ourCommands(driver, kind) {
  return Object.keys(RUNTIMES).map((name) => ourCommand(name, driver, kind));
}

/** Deno without this package. */
export function denoCommand(driver, kind) {
  const deno = findRuntime("deno");
  return deno && script(deno.command, driver, kind);
}

/** The system's Node without this package. */
export function nodeCommand(driver, kind) {
  return script([systemNode()], driver, kind);
}

/** A Python that has a module, with a locker of `python.py`. */
export function pythonCommand(module, locker) {
  return prefixed(findPython(module), child("python.py"), locker);
}

/** A program that may be missing, with arguments. */
export function prefixed(program, ...args) {
  return program && [program, ...args];
}

function findRuntime(wanted) {
  return runtimes().find(({ name }) => name === wanted);
}

function script(command, driver, kind, library = "") {
  return [...command, child("child.mjs"), driver, library, kind];
}

function child(name) {
  return join(root, "bench", "children", name);
}
