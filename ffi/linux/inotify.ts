/** Linux tells who watches a file when somebody closes it: inotify(7). */

import { setImmediate } from "node:timers";
import { littleEndian } from "../posix/constants.ts";
import {
  IN_CLOEXEC,
  IN_CLOSE,
  IN_NONBLOCK,
  IN_Q_OVERFLOW,
  INOTIFY_EVENT,
  O_CLOEXEC,
  POLLIN,
} from "./constants.ts";
import { asBytes, cString } from "../runtime/memory.ts";
import { inMainThread } from "../runtime/main_thread.ts";
import { procPath } from "./proc.ts";
import type { CFunction, FfiRuntime, OsLocks, Watch } from "../types.ts";

const MAX_READ = 64 * 1024;

type Functions = Record<keyof typeof FUNCTIONS, CFunction>;

const FUNCTIONS = {
  inotify_init1: { parameters: ["i32"], result: "i32" },
  inotify_add_watch: { parameters: ["i32", "buffer", "i32"], result: "i32" },
  inotify_rm_watch: { parameters: ["i32", "i32"], result: "i32" },
  poll: { parameters: ["buffer", "usize", "i32"], result: "i32" },
  read: { parameters: ["i32", "buffer", "usize"], result: "i64" },
  pipe2: { parameters: ["buffer", "i32"], result: "i32" },
  dup3: { parameters: ["i32", "i32", "i32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
} as const;

/** Makes {@linkcode OsLocks.watchClose}: one instance of inotify for the thread. */
export function watcher(
  runtime: FfiRuntime,
  libc: string,
): OsLocks["watchClose"] {
  if (!runtime.readStream && !runtime.waitReadable) return () => null;
  let instance: Inotify | undefined;
  return (fd, closed) => {
    instance ??= new Inotify(runtime, libc);
    return instance.watch(fd, closed);
  };
}

/**
 * Events are taken out of the kernel's queue by the thread that runs
 * JavaScript alone, be it blocked in {@linkcode Watch.block} or on its event
 * loop. So neither takes what the other waits for.
 */
class Inotify {
  readonly #runtime: FfiRuntime;
  readonly #libc: string;
  readonly #c: Functions;
  /** Whom to tell, by the number of the watch: one for each inode. */
  readonly #closed = new Map<number, Set<() => void>>();
  readonly #events = new Uint8Array(MAX_READ);
  readonly #poll = new Int32Array(2);
  /** The descriptor; -1 before it is open, and where it cannot be. */
  #fd = -1;
  #listening = false;
  #broken = false;

  constructor(runtime: FfiRuntime, libc: string) {
    this.#runtime = runtime;
    this.#libc = libc;
    this.#c = runtime.bind(libc, FUNCTIONS);
  }

  /** `null` when there is no instance or no watch to be had any more. */
  watch(fd: number, closed: () => void): Watch | null {
    if (this.#broken) return null;
    if (this.#fd < 0) {
      const blocking = this.#runtime.readStream ? IN_NONBLOCK : 0;
      this.#fd = Number(this.#c.inotify_init1(IN_CLOEXEC | blocking));
      // With the stream it ends when the worker does.
      if (!inMainThread && this.#fd >= 0) this.#listen();
    }
    const watch = Number(
      this.#c.inotify_add_watch(this.#fd, cString(procPath(fd)), IN_CLOSE),
    );
    if (watch < 0) return null;
    const listeners = this.#closed.get(watch) ?? new Set();
    const notify = () => closed();
    this.#closed.set(watch, listeners.add(notify));
    return {
      listen: () => this.#listen(),
      block: (milliseconds) => this.#readEvents(milliseconds),
      end: () => {
        listeners.delete(notify);
        if (listeners.size === 0) this.#forget(watch);
      },
    };
  }

  #forget(watch: number): void {
    this.#closed.delete(watch);
    // Whoever waited has the lock and better things to do first; and perhaps
    // waits again.
    setImmediate(() => {
      if (this.#closed.has(watch)) return;
      // Queues an event, which wakes a thread that is parked for nobody.
      this.#c.inotify_rm_watch(this.#fd, watch);
    });
  }

  #listen(): void {
    if (this.#listening || this.#broken) return;
    this.#listening = true;
    if (this.#runtime.readStream) {
      this.#listening = this.#becomeStream();
    } else {
      // The buffer is too small for any event, so read(2) waits for one, takes
      // nothing and fails with EINVAL.
      this.#runtime.waitReadable!(this.#libc, this.#fd).then(() => {
        this.#listening = false;
        // Who is told attempts, and listens again if that was in vain. To park
        // a thread for the others takes longer than to lock, so it comes later.
        if (this.#readEvents(0) === this.#closed.size) return;
        setImmediate(() => {
          if (this.#closed.size > 0) this.#listen();
        });
      });
    }
  }

  /**
   * Runtimes that read pipes on their event loop are given a pipe, and the
   * instance in its place before they first look at it.
   */
  #becomeStream(): boolean {
    const ends = new Int32Array(2);
    if (this.#c.pipe2(asBytes(ends), O_CLOEXEC) !== 0) return false;
    const [reading, writing] = ends;
    this.#runtime.readStream!(reading, (bytes) => this.#dispatch(bytes));
    this.#c.close(writing);
    if (this.#c.dup3(this.#fd, reading, O_CLOEXEC) !== reading) return false;
    this.#c.close(this.#fd);
    this.#fd = reading;
    return true;
  }

  /** Waits for events and tells of them; returns how many were told. */
  #readEvents(milliseconds: number): number {
    this.#poll.set([this.#fd, POLLIN]);
    const longest = Math.min(Math.ceil(milliseconds), 2 ** 31 - 1);
    if (Number(this.#c.poll(asBytes(this.#poll), 1n, longest)) <= 0) return 0;
    const size = BigInt(MAX_READ);
    const count = Number(this.#c.read(this.#fd, this.#events, size));
    if (count > 0) return this.#dispatch(this.#events.subarray(0, count));
    // Somebody closed what is not theirs. Waiters attempt by themselves.
    this.#broken = true;
    this.#fd = -1;
    return 0;
  }

  #dispatch(events: Uint8Array): number {
    const view = new DataView(events.buffer, events.byteOffset, events.length);
    const watchIds = new Set<number>();
    for (let at = 0; at < events.length;) {
      const { wd, mask: bits, length, name } = INOTIFY_EVENT;
      const mask = view.getUint32(at + bits, littleEndian);
      if (mask & IN_Q_OVERFLOW) {
        for (const watch of this.#closed.keys()) watchIds.add(watch);
      }
      watchIds.add(view.getInt32(at + wd, littleEndian));
      at += name + view.getUint32(at + length, littleEndian);
    }
    let notified = 0;
    for (const watch of watchIds) {
      const listeners = this.#closed.get(watch);
      if (!listeners) continue;
      for (const closed of listeners) closed();
      notified++;
    }
    return notified;
  }
}
