/** Finds the processes that a process has started: proc(5). */

import * as fs from "node:fs";
import process from "node:process";

/** States of processes that have ended: zombie and dead. */
const ENDED = ["Z", "X"];

/**
 * Returns the processes that descend from this one and run, each parent before
 * its children. Returns `null` if /proc cannot be read, or belongs to another
 * PID namespace, whose PIDs mean nothing here.
 */
export function descendants(): number[] | null {
  if (parseInt(readText("/proc/self/stat") ?? "") !== process.pid) return null;
  const children = new Map<number, Stat[]>();
  for (const stat of readAll()) {
    const siblings = children.get(stat.parent);
    if (siblings) siblings.push(stat);
    else children.set(stat.parent, [stat]);
  }
  const found: number[] = [];
  const queue = [process.pid];
  // The children of a process that has ended belong to another one already.
  for (const parent of queue) {
    for (const { pid, state } of children.get(parent) ?? []) {
      queue.push(pid);
      if (!ENDED.includes(state)) found.push(pid);
    }
    // PIDs are read one after another, so a PID used again could close a circle.
    children.delete(parent);
  }
  return found;
}

function readText(path: string): string | undefined {
  try {
    return fs.readFileSync(path, "latin1");
  } catch {
    // There is no /proc, or the process has ended.
    return undefined;
  }
}

interface Stat {
  readonly pid: number;
  readonly state: string;
  readonly parent: number;
}

function* readAll(): Generator<Stat> {
  for (const name of fs.readdirSync("/proc")) {
    const pid = Number(name);
    if (!Number.isInteger(pid)) continue;
    const text = readText(`/proc/${pid}/stat`);
    if (text === undefined) continue;
    // The second field is the name in parentheses, and may contain any of them.
    const [state = "", parent] = text.slice(text.lastIndexOf(")") + 2)
      .split(" ", 2);
    yield { pid, state, parent: Number(parent) };
  }
}
