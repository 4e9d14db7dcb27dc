/** Asks the system whether a process exists. */

import process from "node:process";
import { denoApi } from "./deno_api.ts";
import { errorCode } from "../types.ts";

/**
 * Returns whether a process with this PID exists, also one of another user.
 * Returns `false` if Deno may not ask, which needs `--allow-run`.
 */
export function processExists(pid: number): boolean {
  if (!mayAsk()) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errorCode(error) === "EPERM";
  }
}

/** Whether asking neither throws nor prompts the user for a permission. */
function mayAsk(): boolean {
  const state = denoApi()?.permissions.querySync({ name: "run" }).state;
  return state === undefined || state === "granted";
}
