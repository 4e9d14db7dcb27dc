/** Exhausts the file descriptors of the process. */

import * as fs from "node:fs";
import process from "node:process";
import { errorCode } from "../../ffi/types.ts";

/** Opens files until the process is out of descriptors. Returns the files. */
export function exhaustDescriptors(): number[] {
  // Half a second after its start, Deno opens two sockets for signals, and
  // panics if it cannot.
  const onSignal = () => {};
  process.on("SIGWINCH", onSignal);
  process.off("SIGWINCH", onSignal);
  const open: number[] = [];
  try {
    for (;;) open.push(fs.openSync("/dev/null", "r"));
  } catch (error) {
    if (errorCode(error) !== "EMFILE") throw error;
    return open;
  }
}
