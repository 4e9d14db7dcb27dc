/** Reports when any process closes or renames a file, by inotify(7). */

import { clearInterval, setImmediate, setInterval } from "node:timers";
import {
  IN_ATTRIB,
  IN_CLOEXEC,
  IN_CLOSE,
  IN_DELETE_SELF,
  IN_MOVE_SELF,
  IN_NONBLOCK,
  IN_Q_OVERFLOW,
  INOTIFY_EVENT,
  O_CLOEXEC,
  POLLIN,
} from "./constants.ts";
import { asBytes, cString, littleEndian } from "../runtime/memory.ts";
import { inMainThread } from "../runtime/main_thread.ts";
import { shared } from "../runtime/shared_state.ts";
import { procPath } from "./proc.ts";
import type { CFunction, FfiRuntime, OsLocks, Watch } from "../types.ts";

/** A file has fewer or other names. To unlink one changes the metadata. */
const IN_NAME = IN_ATTRIB | IN_MOVE_SELF | IN_DELETE_SELF;

/**
 * How often the names are polled where only a thread of the pool could wait for
 * an event, in milliseconds. That thread would keep the process alive.
 */
const NAME_POLL_MS = 100;

/** How many bytes of events are read at once. */
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

/** On Bun, waiting for an event blocks a thread of the pool. */
const closes = shared("inotify", () => ({
  instance: undefined as Pick<Inotify, "watch"> | undefined,
}));

/**
 * Returns {@linkcode OsLocks.watchClose}. Each thread uses one inotify
 * instance.
 */
export function watcher(
  runtime: FfiRuntime,
  libc: string,
): OsLocks["watchClose"] {
  if (!runtime.readStream && !runtime.waitReadable) return () => null;
  return (fd, onClose) => {
    closes.instance ??= new Inotify(runtime, libc, IN_CLOSE);
    return closes.instance.watch(fd, onClose);
  };
}

/**
 * Returns {@linkcode OsLocks.watchName}. It uses an instance of its own: an
 * instance has one watch for each inode, and a waiter that ends its watch must
 * not wait for the holder to end another.
 */
export function nameWatcher(
  runtime: FfiRuntime,
  libc: string,
): OsLocks["watchName"] {
  if (!runtime.readStream && !runtime.waitReadable) return () => null;
  let instance: Inotify | undefined;
  return (fd, onChange) => {
    instance ??= new Inotify(runtime, libc, IN_NAME);
    const watch = instance.watch(fd, onChange);
    if (watch === null) return null;
    if (runtime.readStream) {
      watch.listen();
      return watch.end;
    }
    const timer = setInterval(() => watch.block(0), NAME_POLL_MS);
    timer.unref();
    return () => {
      clearInterval(timer);
      watch.end();
    };
  };
}

/**
 * An inotify instance.
 *
 * Only the JavaScript thread reads events from the queue of the kernel, whether
 * it is blocked in {@linkcode Watch.block} or runs its event loop. So neither
 * of the two can consume an event that the other waits for.
 */
class Inotify {
  readonly #runtime: FfiRuntime;
  readonly #libc: string;
  /** The events to report. */
  readonly #mask: number;
  readonly #c: Functions;
  /** The callbacks by watch descriptor, of which each inode has one. */
  readonly #callbacks = new Map<number, Set<() => void>>();
  readonly #events = new Uint8Array(MAX_READ);
  readonly #poll = new Int32Array(2);
  /** The descriptor. It is -1 before it is open, or if it cannot be opened. */
  #fd = -1;
  #listening = false;
  #broken = false;

  constructor(runtime: FfiRuntime, libc: string, mask: number) {
    this.#runtime = runtime;
    this.#mask = mask;
    this.#libc = libc;
    this.#c = runtime.bind(libc, FUNCTIONS);
  }

  /** Returns `null` if the limit of instances or of watches is reached. */
  watch(fd: number, onClose: () => void): Watch | null {
    if (this.#broken) return null;
    if (this.#fd < 0) this.#open();
    const watch = Number(
      this.#c.inotify_add_watch(this.#fd, cString(procPath(fd)), this.#mask),
    );
    if (watch < 0) return null;
    const callbacks = this.#callbacks.get(watch) ?? new Set();
    // A function of its own, so that equal callbacks count separately.
    const callback = () => onClose();
    this.#callbacks.set(watch, callbacks.add(callback));
    return {
      listen: () => this.#listen(),
      block: (milliseconds) => this.#readEvents(milliseconds),
      end: () => {
        callbacks.delete(callback);
        if (callbacks.size === 0) this.#removeWatch(watch);
      },
    };
  }

  /** In a worker, the instance is a stream, which the runtime closes. */
  #open(): void {
    const { inotify_init1 } = this.#c;
    const { readStream, openStream } = this.#runtime;
    const flags = IN_CLOEXEC | (readStream ? IN_NONBLOCK : 0);
    const open = () => inotify_init1(flags) as number;
    if (inMainThread()) {
      this.#fd = open();
      return;
    }
    this.#fd = openStream?.(open, (bytes) => this.#dispatch(bytes)) ?? -1;
    this.#listening = this.#fd >= 0;
    if (this.#listening) return;
    this.#fd = open();
    if (this.#fd >= 0) this.#listen();
  }

  #removeWatch(watch: number): void {
    this.#callbacks.delete(watch);
    // Later, because the task now holds the lock, and because it may soon wait
    // for the same file again.
    setImmediate(() => {
      if (this.#callbacks.has(watch)) return;
      // Queues an event, which wakes a pool thread that is blocked in read(2).
      this.#c.inotify_rm_watch(this.#fd, watch);
    });
  }

  #listen(): void {
    if (this.#listening || this.#broken) return;
    this.#listening = true;
    if (this.#runtime.readStream) {
      this.#listening = this.#becomeStream();
    } else {
      // The buffer is too small for any event. So read(2) waits for an event,
      // leaves it in the queue, and fails with EINVAL.
      this.#runtime.waitReadable!(this.#libc, this.#fd).then(() => {
        this.#listening = false;
        // A notified task attempts to lock, and listens again if it fails. If
        // other watches remain, listen for them, but after that attempt: to
        // block a pool thread takes longer than to lock.
        if (this.#readEvents(0) === this.#callbacks.size) return;
        setImmediate(() => {
          if (this.#callbacks.size > 0) this.#listen();
        });
      });
    }
  }

  /**
   * Makes the runtime read the instance on its event loop. The runtime can do
   * that only with pipes, so it gets a pipe. dup3(2) then replaces the pipe by
   * the instance, before the runtime first polls it.
   */
  #becomeStream(): boolean {
    const ends = new Int32Array(2);
    if (this.#c.pipe2(asBytes(ends), O_CLOEXEC) !== 0) return false;
    const [reading = -1, writing = -1] = ends;
    this.#runtime.readStream!(reading, (bytes) => this.#dispatch(bytes));
    this.#c.close(writing);
    if (this.#c.dup3(this.#fd, reading, O_CLOEXEC) !== reading) return false;
    this.#c.close(this.#fd);
    this.#fd = reading;
    return true;
  }

  /** Waits for events. Returns how many watches they were dispatched to. */
  #readEvents(milliseconds: number): number {
    this.#poll.set([this.#fd, POLLIN]);
    const longest = Math.min(Math.ceil(milliseconds), 2 ** 31 - 1);
    if (Number(this.#c.poll(asBytes(this.#poll), 1n, longest)) <= 0) return 0;
    const size = BigInt(MAX_READ);
    const count = Number(this.#c.read(this.#fd, this.#events, size));
    if (count > 0) return this.#dispatch(this.#events.subarray(0, count));
    // Other code of the process closed the descriptor. Waiters go on polling.
    this.#broken = true;
    this.#fd = -1;
    return 0;
  }

  /** Runs the callbacks. Returns how many watches had events. */
  #dispatch(events: Uint8Array): number {
    const view = new DataView(events.buffer, events.byteOffset, events.length);
    const watchIds = new Set<number>();
    for (let at = 0; at < events.length;) {
      const { wd, mask: bits, length, name } = INOTIFY_EVENT;
      const mask = view.getUint32(at + bits, littleEndian);
      if (mask & IN_Q_OVERFLOW) {
        for (const watch of this.#callbacks.keys()) watchIds.add(watch);
      }
      watchIds.add(view.getInt32(at + wd, littleEndian));
      at += name + view.getUint32(at + length, littleEndian);
    }
    let notified = 0;
    for (const watch of watchIds) {
      const callbacks = this.#callbacks.get(watch);
      if (!callbacks) continue;
      for (const callback of callbacks) callback();
      notified++;
    }
    return notified;
  }
}
