import assert from "node:assert/strict";
import process from "node:process";
import { LockStates } from "../../ffi/linux/lock_states.ts";
import { test } from "../support/test.ts";

/** What fdinfo says of a descriptor of a file, and of an inotify instance. */
const open = (inode: number, mount = 28) =>
  `pos:\t0\nflags:\t0100000\nmnt_id:\t${mount}\nino:\t${inode}\n`;
const lock = (pid: number, inode = 255) =>
  `lock:\t1: FLOCK  ADVISORY  WRITE ${pid} 08:01:${inode} 0 EOF\n`;
const watch = (inode: number, mask = "18", device = "800001") =>
  `mnt_id:\t15\nino:\t9\ninotify wd:1 ino:${inode.toString(16)} ` +
  `sdev:${device} mask:${mask} ignored_mask:0 fhandle-bytes:8\n`;

const FILE = open(255);

/** The descriptors of each process. */
const PROCESSES: Record<number, string[]> = {
  10: [FILE + lock(10), watch(255)],
  11: [FILE],
  13: [FILE, watch(255)],
  14: [FILE],
  15: [watch(255)],
  16: [FILE, watch(256)],
  17: [open(255, 29), watch(255)],
  // tail -f, and a watch of a file on another device.
  18: [FILE, watch(255, "fc6")],
  19: [FILE, watch(255, "18", "800002")],
  // A holder in another mount namespace. It also waits for the other file.
  20: [open(300, 29) + lock(20, 300), FILE, open(300), watch(255) + watch(300)],
  21: [open(300), watch(300)],
};

const FILES: Record<string, string> = {
  "/proc/2/comm": "kthreadd\n",
  "/proc/self/stat": `${process.pid} (test) S`,
  "/proc/self/fdinfo/3": FILE,
  "/proc/self/fdinfo/4": open(300),
  "/proc/self/mountinfo": "28 1 8:1 / / rw - ext4 /dev/sda rw\n",
  "/proc/locks": "1: FLOCK  ADVISORY  WRITE 10 08:01:255 0 EOF\n" +
    "1: -> FLOCK  ADVISORY  READ 11 08:01:255 0 EOF\n" +
    "1: -> FLOCK  ADVISORY  READ 11 08:01:255 0 EOF\n" +
    "2: -> FLOCK  ADVISORY  WRITE 12 08:01:256 0 EOF\n" +
    "3: -> OFDLCK ADVISORY  WRITE -1 08:01:255 0 EOF\n" +
    "3: -> OFDLCK ADVISORY  READ -1 08:01:255 0 EOF\n" +
    "4: FLOCK  ADVISORY  WRITE 20 08:01:300 0 EOF\n",
  "/proc/11/comm": "flock\n",
  "/proc/13/comm": "node\n",
  ...Object.fromEntries(
    Object.entries(PROCESSES).flatMap(([pid, infos]) =>
      infos.map((info, fd) => [`/proc/${pid}/fdinfo/${fd}`, info])
    ),
  ),
};

/** The paths in the order in which they were read. */
const reads: string[] = [];

const PROC = {
  read: (path: string) => {
    reads.push(path);
    return FILES[path];
  },
  list: (path: string) =>
    path === "/proc"
      ? ["self", "locks", ...Object.keys(PROCESSES)]
      : Object.keys(PROCESSES[Number(path.split("/")[2])] ?? []),
  inode: () => 255n,
  processExists: () => true,
};

test("LockStates lists processes that block, or watch the open file without a lock", () => {
  const states = new LockStates(PROC);
  const file = states.add(3);
  assert.deepEqual(states.read([file]), [{
    holders: [{ pid: 10, exclusive: true }],
    waiters: [
      { pid: 11, exclusive: false, command: "flock" },
      // Linux does not report the process that waits for an OFD lock.
      { pid: null, exclusive: true },
      { pid: null, exclusive: false },
      { pid: 13, exclusive: null, command: "node" },
      { pid: 20, exclusive: null },
    ],
  }]);
});

test("LockStates reads the descriptors of each process once, for all files", () => {
  const states = new LockStates(PROC);
  const files = [states.add(3), states.add(4), undefined];
  reads.length = 0;
  const found = states.read(files) ?? [];
  assert.deepEqual(
    found.map(({ holders }) => holders.map(({ pid }) => pid)),
    [[10], [20], []],
  );
  assert.deepEqual(found[1]?.waiters, [{ pid: 21, exclusive: null }]);
  assert.deepEqual(found[2]?.waiters, []);
  const descriptors = reads.filter((path) => path.includes("/fdinfo/"));
  assert.equal(descriptors.length, new Set(descriptors).size);
});

test("LockStates is null if /proc belongs to another PID namespace", () => {
  const read = (path: string) =>
    path === "/proc/self/stat" ? `${process.pid + 1} (test) S` : FILES[path];
  const states = new LockStates({ ...PROC, read });
  assert.equal(states.read([states.add(3)]), null);
});
