/**
 * What the command calls in the C library while it waits for a program without
 * blocking its thread.
 *
 * The functions return a negative errno if they fail, as system calls do.
 */

import { cString } from "../runtime/memory.ts";
import { processEnd } from "./command.ts";
import type { ProcessEnd } from "./command.ts";
import { SIG_DFL, SIG_IGN, SIGACTION_SIZE } from "./constants.ts";
import type { PosixConstants } from "./constants.ts";
import type { FfiRuntime } from "../types.ts";

/** sys/wait.h: the same on Linux and macOS. */
const WNOHANG = 1;
const ANY_CHILD = -1;

/** sys/prctl.h (Linux) */
const PR_SET_CHILD_SUBREAPER = 36;

/** fcntl.h: `O_RDONLY` is 0. `O_CLOEXEC` and `O_NOCTTY` differ. */
const OPEN_TERMINAL = { linux: 0o2000400, darwin: 0x1020000 };

/** errno.h, the same on Linux and macOS. */
const EPERM = 1;

/** What a terminal does with this process. */
export type TerminalState =
  /** Its keys send signals to this process. */
  | "foreground"
  /** They send signals to another group of processes. */
  | "background"
  /** This process does not have a terminal, or the terminal was closed. */
  | "none";

/** The calls. */
export interface SupervisionCalls {
  /** Whether this process ignores a signal, as its caller may have set. */
  isIgnored(signal: number): boolean;
  /**
   * Ends this process by a signal. Returns if the system does not do that, as
   * for PID 1 of a container.
   */
  endBy(signal: number): void;
  /** Sends a signal. The process may have ended, or belong to another user. */
  kill(pid: number, signal: number): "sent" | "missing" | "forbidden";
  /** What the terminal of this process does with it. */
  terminal(): TerminalState;
  /** Whether this process leads its session, which a terminal signals first. */
  readonly leadsSession: boolean;
  /**
   * Makes this process the parent of each descendant whose parent ends, in the
   * place of PID 1. Does nothing on macOS, which cannot.
   */
  adoptOrphans(): void;
  /**
   * Returns a child process that has ended and removes it from the system's
   * table. Returns `"none"` if there is no child, and `null` if all run.
   */
  reap(): { readonly pid: number; readonly end: ProcessEnd } | "none" | null;
}

/** Binds the calls. */
export function supervisionCalls(
  runtime: Pick<FfiRuntime, "bind" | "errno">,
  { libc, linux, variadicPadding, errnoLocation }: PosixConstants,
): SupervisionCalls {
  const padding = Array<bigint>(variadicPadding).fill(0n);
  const c = runtime.bind(libc, {
    sigaction: { parameters: ["i32", "usize", "buffer"], result: "i32" },
    signal: { parameters: ["i32", "usize"], result: "i64" },
    kill: { parameters: ["i32", "i32"], result: "i32" },
    waitpid: { parameters: ["i32", "buffer", "i32"], result: "i32" },
    open: {
      parameters: ["buffer", "i32", ...padding.map(() => "i64" as const)],
      result: "i32",
    },
    close: { parameters: ["i32"], result: "i32" },
    tcgetpgrp: { parameters: ["i32"], result: "i32" },
    // Not getpgrp(), because Node 26 must not call functions without parameters.
    getpgid: { parameters: ["i32"], result: "i32" },
    getsid: { parameters: ["i32"], result: "i32" },
  });
  const errno = runtime.errno(libc, errnoLocation);
  const status = new Int32Array(1);
  const statusBytes = new Uint8Array(status.buffer);
  const leadsSession = Number(c.getsid(0)) === globalThis.process.pid;

  return {
    isIgnored(signal) {
      const action = new BigUint64Array(SIGACTION_SIZE / 8);
      c.sigaction(signal, 0n, new Uint8Array(action.buffer));
      return action[0] === SIG_IGN;
    },
    endBy(signal) {
      c.signal(signal, SIG_DFL);
      c.kill(globalThis.process.pid, signal);
    },
    kill(pid, signal) {
      if (Number(c.kill(pid, signal)) === 0) return "sent";
      return errno() === EPERM ? "forbidden" : "missing";
    },
    terminal() {
      const flags = linux ? OPEN_TERMINAL.linux : OPEN_TERMINAL.darwin;
      const fd = Number(c.open(cString("/dev/tty"), flags, ...padding));
      if (fd < 0) return "none";
      const group = Number(c.tcgetpgrp(fd));
      c.close(fd);
      if (group < 0) return "none";
      return group === Number(c.getpgid(0)) ? "foreground" : "background";
    },
    leadsSession,
    adoptOrphans() {
      if (!linux) return;
      const { prctl } = runtime.bind(libc, {
        prctl: {
          parameters: ["i32", "i64", "i64", "i64", "i64"],
          result: "i32",
        },
      });
      prctl(PR_SET_CHILD_SUBREAPER, 1n, 0n, 0n, 0n);
    },
    reap() {
      const pid = Number(c.waitpid(ANY_CHILD, statusBytes, WNOHANG));
      if (pid > 0) return { pid, end: processEnd(status[0]!) };
      return pid === 0 ? null : "none";
    },
  };
}
