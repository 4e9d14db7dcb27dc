import assert from "node:assert/strict";
import { formatDiagnosis } from "../../../src/cli/doctor/mod.ts";
import type {
  Diagnosis,
  LockerName,
  LockerReport,
  PathReport,
  ViewReport,
} from "../../../src/cli/doctor/mod.ts";
import { judge } from "../../../src/cli/doctor/judge.ts";
import type { Judgment, Measured } from "../../../src/cli/doctor/judge.ts";
import { test } from "../../support/test.ts";

const PATH: PathReport = {
  path: "/srv/data",
  realPath: "/srv/data",
  type: "directory",
  directory: "/srv/data",
  fileSystem: {
    type: "ext4",
    source: "/dev/vda",
    mountPoint: "/",
    options: ["rw", "relatime"],
  },
  local: true,
  mode: "0755",
  owner: 0,
  user: 0,
  file: null,
};

const VIEW: ViewReport = {
  holder: "/srv/data",
  contender: "/srv/data",
  trials: [{
    held: "exclusive",
    requested: "exclusive",
    expected: false,
    acquired: false,
    overlap: 0,
    acquiredAfterRelease: true,
  }],
  readsBack: true,
  killed: { acquired: "after the kill", freedAfter: 3 },
  waiting: {
    acquired: "after the release",
    woken: true,
    handOver: 0.1,
    longest: 0.2,
    clockError: 0.1,
  },
};

const CONTEST = {
  processes: 4,
  duration: 300,
  acquired: 100,
  waited: 90,
  compared: 100,
  clockError: 0.1,
  overlaps: 0,
  longestOverlap: 0,
  gaveUp: 0,
  staleReads: 0,
};

const lockerReport = (
  locker: LockerName,
  changes: Partial<LockerReport> = {},
): LockerReport => ({
  locker,
  call: locker === "flock" ? "flock(2)" : `fcntl(2) ${locker}`,
  state: "works",
  error: null,
  views: [VIEW],
  contest: CONTEST,
  ...changes,
});

const MEASURED: Measured = {
  paths: [PATH],
  runtime: { name: "Node 26", system: "linux x64", calls: "node:ffi" },
  lockers: [lockerReport("flock"), lockerReport("ofd"), lockerReport("lockf")],
  kindsConflict: false,
  writes: {
    replaces: true,
    hardLinks: true,
    permissions: true,
    syncsDirectory: true,
    inPlace: true,
    error: null,
    updates: { processes: 4, made: 40, lost: 0 },
  },
  inotify: { maxInstances: 128, maxWatches: 10_000 },
};

/** Judges measurements in which flock(2) or anything else is different. */
function judged(
  flock: Partial<LockerReport>,
  changes: Partial<Measured> = {},
  locker: LockerName = "flock",
): Judgment {
  const [, ...others] = MEASURED.lockers;
  const lockers = [lockerReport("flock", flock), ...others];
  return judge({ ...MEASURED, lockers, ...changes }, locker);
}

const withContest = (changes: Partial<typeof CONTEST>) =>
  judged({ contest: { ...CONTEST, ...changes } });

const withPath = (changes: Partial<PathReport>) =>
  judged({}, { paths: [{ ...PATH, ...changes }] });

test("doctor: if everything works, there is nothing to say", () => {
  const { verdict, problems, notes } = judged({});
  assert.deepEqual([verdict, problems, notes], ["works", [], []]);
});

test("doctor: processes that overlapped only while they contended are enough", () => {
  const { verdict, problems } = withContest({
    overlaps: 2,
    longestOverlap: 1.25,
  });
  assert.equal(verdict, "broken");
  assert.match(
    problems[0] ?? "",
    /does not exclude reliably: of 100 acquisitions, 2 overlapped .* 1\.[23] ms; use the option locker: "ofd"/,
  );
});

test("doctor: one attempt that succeeded although it must not is enough", () => {
  const [trial] = VIEW.trials;
  const acquired = { ...trial!, acquired: true, overlap: 2 };
  const { verdict, problems } = judged({
    views: [{ ...VIEW, trials: [trial!, acquired] }],
  });
  assert.equal(verdict, "broken");
  assert.match(
    problems[0] ?? "",
    /does not exclude on .* both held it for 2.0/,
  );
});

test("doctor: a process that never acquired a lock is reported", () => {
  const { verdict, problems } = withContest({ gaveUp: 1 });
  assert.equal(verdict, "broken");
  assert.match(problems[0] ?? "", /does not release reliably: 1 of 4/);
});

test("doctor: content that is out of date limits what a working lock is for", () => {
  const { verdict, problems } = withContest({ staleReads: 3 });
  assert.equal(verdict, "limited");
  assert.match(problems[0] ?? "", /did not see .* 3 times of 100/);
  const old = judged({ views: [{ ...VIEW, readsBack: false }] });
  assert.equal(old.verdict, "limited");
  assert.match(old.problems[0] ?? "", /did not see .* under it before: do not/);
});

test("doctor: clocks that differ too much to compare are mentioned", () => {
  const { verdict, notes } = withContest({ compared: 49, clockError: 8 });
  assert.equal(verdict, "works");
  assert.match(notes[0] ?? "", /by up to 8.0 ms, so only 49 of the 100 times/);
  assert.deepEqual(withContest({ compared: 50 }).notes, []);
});

test("doctor: a waiter that acquired the lock of a living holder is reported", () => {
  const killed = { acquired: "early", freedAfter: null } as const;
  const { verdict, problems } = judged({ views: [{ ...VIEW, killed }] });
  assert.equal(verdict, "broken");
  assert.match(problems[0] ?? "", /a waiter acquired a lock that another/);
});

test("doctor: the kind of lock that the caller uses decides", () => {
  const error = { code: "ENOLCK", message: "no locks (ENOLCK)" };
  const refused = { error, views: [], contest: null };
  assert.equal(judged(refused).verdict, "broken");
  assert.equal(judged(refused, {}, "ofd").verdict, "limited");
});

test("doctor: a kind of lock that the runtime lacks does not count against the path", () => {
  const code = "ERR_LOCK_UNSUPPORTED";
  const error = { code, message: "it needs FFI; pass --allow-ffi" };
  const lacking = { error, views: [], contest: null };
  const lockers = [lockerReport("flock"), lockerReport("ofd", lacking)];
  const { verdict, notes } = judged({}, { lockers });
  assert.equal(verdict, "works");
  assert.deepEqual(notes, ["not available: it needs FFI; pass --allow-ffi"]);
  const decisive = judged({}, { lockers }, "ofd");
  assert.equal(decisive.verdict, "broken");
  assert.deepEqual(decisive.problems, ["it needs FFI; pass --allow-ffi"]);
});

test("doctor: locks that a mount option hides from other machines are broken", () => {
  const paths = (option: string): Partial<Measured> => {
    const fileSystem = { ...PATH.fileSystem!, type: "nfs", options: [option] };
    return { paths: [{ ...PATH, fileSystem, local: false }] };
  };
  const { verdict, problems, lockers } = judged({}, paths("nolock"));
  assert.equal(verdict, "broken");
  assert.ok(lockers.every(({ state }) => state === "local"));
  assert.match(problems[0] ?? "", /option nolock: see nfs\(5\); mount it with/);
  // Of the other kinds, it is only a problem.
  const records = judged({}, paths("local_lock=posix"));
  assert.equal(records.verdict, "limited");
  assert.match(records.problems[0] ?? "", /the locks of ofd, lockf on/);
  const decisive = judged({}, paths("local_lock=posix"), "ofd");
  assert.equal(decisive.verdict, "broken");
});

test("doctor: kinds of locks that conflict are mentioned", () => {
  const { verdict, notes } = judged({}, { kindsConflict: true });
  assert.equal(verdict, "works");
  assert.match(notes[0] ?? "", /record locks conflict/);
});

test("doctor: a file that is locked, and how it is updated, is mentioned", () => {
  const file = {
    writable: true,
    replaceable: false,
    updates: "in place",
    holders: [4711],
  } as const;
  const { notes } = withPath({
    path: "/srv/a.json",
    type: "file",
    file: { ...file, holders: [...file.holders] },
  });
  assert.match(notes[0] ?? "", /is locked now, by process 4711/);
  assert.match(notes[1] ?? "", /updateFile needs inPlace: true/);
  const denied = withPath({
    type: "file",
    file: { writable: false, replaceable: false, updates: null, holders: [] },
  });
  assert.match(denied.notes[0] ?? "", /can be neither replaced nor written/);
});

test("doctor: what writeAtomic cannot do is reported", () => {
  const writes = {
    ...MEASURED.writes,
    replaces: false,
    updates: null,
    error: { code: "EPERM", message: "EPERM: rename" },
  };
  const { verdict, problems } = judged({}, { writes });
  assert.equal(verdict, "limited");
  assert.deepEqual(problems, [
    "writeAtomic cannot replace a file here: EPERM: rename",
  ]);
  const lost = { processes: 4, made: 40, lost: 7 };
  assert.match(
    judged({}, { writes: { ...MEASURED.writes, updates: lost } }).problems[0] ??
      "",
    /updateFile lost 7 of 40 updates/,
  );
  const { notes } = judged({}, {
    writes: { ...MEASURED.writes, hardLinks: false, syncsDirectory: false },
  });
  assert.match(notes.join("\n"), /no hard links.*\n.*cannot be synced/);
});

test("doctor: the text begins with the verdict, and has lines of 80 columns", () => {
  const error = { code: "ENOLCK", message: "no locks (ENOLCK)" };
  const diagnosis: Diagnosis = {
    ...MEASURED,
    ...judged({ error, views: [], contest: null }),
    locker: "flock",
    duration: 1,
  };
  const text = formatDiagnosis(diagnosis);
  assert.ok(text.startsWith("/srv/data: locks DO NOT work.\n\nProblems\n  - "));
  for (const line of text.split("\n")) assert.ok(line.length <= 80, line);
  assert.match(text, /flock\(2\), locker "flock"\n {2}REFUSED: no locks/);
  assert.match(text, /Node 26 on linux x64, calls the system through node:ffi/);
  assert.equal(JSON.parse(JSON.stringify(diagnosis)).verdict, "broken");
});
