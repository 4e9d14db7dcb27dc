import assert from "node:assert/strict";
import process from "node:process";
import { waitersIn } from "../../ffi/linux/proc.ts";
import { test } from "../support/test.ts";

/** What fdinfo says of a descriptor of the file, and of an inotify instance. */
const FILE = "pos:\t0\nflags:\t0100000\nmnt_id:\t28\nino:\t255\n";
const LOCK = "lock:\t1: FLOCK  ADVISORY  WRITE 10 08:01:255 0 EOF\n";
const watch = (inode: number) =>
  `mnt_id:\t15\nino:\t9\ninotify wd:1 ino:${inode.toString(16)} sdev:800001 ` +
  "mask:18 ignored_mask:0 fhandle-bytes:8\n";

/** The descriptors of each process. */
const PROCESSES: Record<number, string[]> = {
  10: [FILE + LOCK, watch(255)],
  11: [FILE],
  13: [FILE, watch(255)],
  14: [FILE],
  15: [watch(255)],
  16: [FILE, watch(256)],
  17: [FILE.replace("28", "29"), watch(255)],
};

const FILES: Record<string, string> = {
  "/proc/self/stat": `${process.pid} (test) S`,
  "/proc/self/fdinfo/3": FILE,
  "/proc/self/mountinfo": "28 1 8:1 / / rw - ext4 /dev/sda rw\n",
  "/proc/locks": "1: FLOCK  ADVISORY  WRITE 10 08:01:255 0 EOF\n" +
    "1: -> FLOCK  ADVISORY  READ 11 08:01:255 0 EOF\n" +
    "2: -> FLOCK  ADVISORY  WRITE 12 08:01:256 0 EOF\n" +
    "3: -> OFDLCK ADVISORY  WRITE -1 08:01:255 0 EOF\n",
  "/proc/11/comm": "flock\n",
  "/proc/13/comm": "node\n",
  ...Object.fromEntries(
    Object.entries(PROCESSES).flatMap(([pid, infos]) =>
      infos.map((info, fd) => [`/proc/${pid}/fdinfo/${fd}`, info])
    ),
  ),
};

test("waitersIn() lists processes that block, or watch the open file without a lock", () => {
  const waiters = waitersIn({
    read: (path) => FILES[path],
    list: (path) =>
      path === "/proc"
        ? ["self", "locks", ...Object.keys(PROCESSES)]
        : Object.keys(PROCESSES[Number(path.split("/")[2])] ?? []),
    inode: () => 255n,
    processExists: () => true,
  }, 3);
  assert.deepEqual(waiters, [
    { pid: 11, exclusive: false, command: "flock" },
    { pid: 13, exclusive: null, command: "node" },
  ]);
});
