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
  const runtime = findRuntime(name);
  if (!runtime) return undefined;
  const command = withoutFfi
    ? runtime.command.flatMap((word) => word === "-A" ? WITHOUT_FFI : [word])
    : runtime.command;
  const module = join(runtime.directory, `mod${runtime.extension}`);
  return script(command, driver, kind, module);
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
