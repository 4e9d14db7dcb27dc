/**
 * The two roles that every row of `npm run consume` plays, each in a process
 * or worker of its own. They meet through files in one folder, because not
 * every tool gives a program arguments, standard input and output.
 */

import { AlreadyLocked, Lock, TemporaryFileLock } from "@x/portalock";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";

/**
 * The delays of a waiter that polls grow up to this. They begin with a
 * millisecond, so only `hasInotify` shows that it does not poll.
 */
const CHECK_INTERVAL_MS = 120_000;

const roles = { hold, wait };

/** Plays a role, and writes a file with what happened. */
export async function play(role, folder) {
  let result;
  try {
    result = await roles[role](folder);
  } catch (error) {
    result = { error: `${error.stack ?? error}` };
    write(folder, "failed");
  }
  write(folder, `${role}.json`, JSON.stringify(result));
  return result;
}

async function hold(folder) {
  const lock = new Lock(path.join(folder, "a.lock"));
  const temporary = new TemporaryFileLock(path.join(folder, "t.lock"));
  await lock.acquire();
  await temporary.acquire();
  write(folder, "held");
  await exists(folder, "waiting");
  const third = await refusal(new Lock(lock.path, { timeout: 0 }));
  await temporary.release();
  const removed = !fs.existsSync(temporary.path);
  await lock.release();
  await exists(folder, "done");
  return { third, removed, ...environment() };
}

async function wait(folder) {
  await exists(folder, "held");
  const temporary = new TemporaryFileLock(path.join(folder, "t.lock"));
  const refused = await refusal(temporary);
  let woken = false;
  const lock = new Lock(path.join(folder, "a.lock"), {
    timeout: Infinity,
    checkInterval: CHECK_INTERVAL_MS,
    onWait: () => {
      woken = hasInotify();
      write(folder, "waiting");
    },
  });
  await lock.acquire();
  await temporary.acquire();
  await temporary.release();
  await lock.release();
  write(folder, "done");
  return {
    refused,
    woken,
    removed: !fs.existsSync(temporary.path),
    ...environment(),
  };
}

/** Tries to acquire a lock; returns the class of the error. */
async function refusal(lock) {
  try {
    await lock.acquire();
    return "acquired";
  } catch (error) {
    return error instanceof AlreadyLocked ? "AlreadyLocked" : `${error}`;
  }
}

/** Returns whether the kernel wakes this process, instead of a timer. */
function hasInotify() {
  const folder = "/proc/self/fd";
  return fs.readdirSync(folder).some((name) => {
    try {
      return fs.readlinkSync(path.join(folder, name)) === "anon_inode:inotify";
    } catch {
      return false; // The descriptor of the folder itself.
    }
  });
}

/** What the library may have loaded or left. */
function environment() {
  const cwd = process.cwd();
  const maps = fs.readFileSync("/proc/self/maps", "utf8");
  const files = maps.split("\n").map((line) => line.slice(line.indexOf("/")));
  return {
    temporaryFiles: fs.readdirSync(os.tmpdir()),
    addons: files.filter((file) => file.endsWith(".node")),
    fromWorkingDirectory: files.filter((file) => file.startsWith(cwd)),
  };
}

/** Writes a file that appears as a whole. */
function write(folder, name, content = "") {
  const draft = path.join(folder, `${name}.draft`);
  fs.writeFileSync(draft, content);
  fs.renameSync(draft, path.join(folder, name));
}

async function exists(folder, name) {
  while (!fs.existsSync(path.join(folder, name))) {
    if (fs.existsSync(path.join(folder, "failed"))) {
      throw new Error("the other process failed");
    }
    await sleep(5);
  }
}
