import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { formatDiagnosis } from "../../../src/cli/doctor/mod.ts";
import type { Diagnosis, Effort } from "../../../src/cli/doctor/mod.ts";
import { hasCapability } from "../../support/capabilities.ts";
import {
  bindMount,
  compileLockFileSystem,
  lockFileSystem,
} from "../../support/fuse.ts";
import { runScript } from "../../support/processes.ts";
import { tempDir } from "../../support/temp_dir.ts";
import { test } from "../../support/test.ts";
import {
  ALL_WORK,
  diagnosed,
  doctorCommand,
  hasRecords,
  states,
} from "./support.ts";

/** Returns whether all waiters were woken. */
const allWoken = ({ lockers }: Diagnosis) =>
  lockers.flatMap(({ views }) => views).every(({ waiting }) => waiting?.woken);

/** Checks that processes tried to overlap with every kind of lock, and failed. */
function assertMeasured({ lockers, writes }: Diagnosis): void {
  for (const { locker, state, views, contest } of lockers) {
    if (state === "unavailable") continue;
    for (const { trials, readsBack, killed, waiting } of views) {
      assert.equal(readsBack, true, locker);
      assert.ok(trials.length >= 4, locker);
      for (const { expected, acquired, overlap } of trials) {
        assert.equal(acquired, expected);
        assert.equal(overlap > 0, expected);
      }
      assert.equal(killed?.acquired, "after the kill", locker);
      assert.equal(waiting?.acquired, "after the release", locker);
    }
    assert.equal(contest?.overlaps, 0, locker);
    assert.equal(contest?.gaveUp, 0, locker);
    assert.equal(contest?.staleReads, 0, locker);
    assert.ok(contest.acquired > 0, locker);
    // The clocks of a busy machine may differ by more than a short section.
    assert.ok(2 * contest.compared > contest.acquired, locker);
  }
  assert.equal(writes.replaces, true);
  assert.equal(writes.updates?.lost, 0);
  assert.ok(writes.updates.made > 0);
}

test("doctor: the temporary directory can be locked, and nothing is left there", async () => {
  using dir = tempDir();
  const diagnosis = await diagnosed([dir.path]);
  const text = formatDiagnosis(diagnosis);
  assert.deepEqual(diagnosis.problems, []);
  assert.equal(diagnosis.verdict, "works");
  assert.deepEqual(states(diagnosis), ALL_WORK);
  assertMeasured(diagnosis);
  assert.equal(allWoken(diagnosis), hasCapability("inotify(7)"));
  assert.match(text, /^".*": locks work\.\n/);
  assert.ok(
    text.split("\n").every((line) =>
      line.length <= 80 || line.includes(dir.path)
    ),
  );
  assert.deepEqual(fs.readdirSync(dir.path), []);
});

/** Mounts a file system of the kernel. */
function mounted(
  type: string,
  options = "",
  source = "none",
): { path: string } & Disposable {
  const dir = tempDir();
  const args = options === "" ? [] : ["-o", options];
  execFileSync("mount", ["-t", type, ...args, source, dir.path]);
  return {
    path: dir.path,
    [Symbol.dispose]() {
      execFileSync("umount", ["--lazy", dir.path]);
      dir[Symbol.dispose]();
    },
  };
}

function mountedOverlay(): { path: string } & Disposable {
  const dir = tempDir();
  const layer = (name: string) => join(dir.path, name);
  for (const name of ["lower", "upper", "work"]) fs.mkdirSync(layer(name));
  const merged = mounted(
    "overlay",
    `lowerdir=${layer("lower")},upperdir=${layer("upper")},` +
      `workdir=${layer("work")}`,
  );
  return {
    path: merged.path,
    [Symbol.dispose]() {
      merged[Symbol.dispose]();
      fs.rmSync(dir.path, { recursive: true });
    },
  };
}

const KERNEL_FILE_SYSTEMS = {
  tmpfs: () => mounted("tmpfs"),
  overlay: mountedOverlay,
};

for (const [type, mount] of Object.entries(KERNEL_FILE_SYSTEMS)) {
  test(`doctor: ${type} can be locked, and is named`, async () => {
    using mount_ = mount();
    const diagnosis = await diagnosed([mount_.path]);
    assert.deepEqual(diagnosis.problems, []);
    assert.equal(diagnosis.verdict, "works");
    assertMeasured(diagnosis);
    const [path] = diagnosis.paths;
    if (hasCapability("file descriptors")) {
      assert.equal(path?.fileSystem?.type, type);
      assert.equal(path.fileSystem.mountPoint, mount_.path);
      assert.ok(path.fileSystem.options.includes("rw"));
      assert.equal(path.local, true);
    } else assert.equal(path?.fileSystem, null);
  }, "root that can mount");
}

test(
  "doctor: waiters that are not woken are explained by the limits of inotify(7)",
  async () => {
    using dir = tempDir();
    const script = 'echo 0 > /proc/sys/user/max_inotify_instances && exec "$@"';
    const { stdout } = await runScript([
      ...["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh"],
      ...doctorCommand("--quick", dir.path),
    ]);
    const { diagnosis }: { diagnosis: Diagnosis } = JSON.parse(stdout);
    assert.equal(diagnosis.verdict, "works");
    assert.equal(diagnosis.inotify?.maxInstances, 0);
    for (const { views } of diagnosis.lockers) {
      for (const { waiting } of views) {
        assert.equal(waiting?.woken, false);
        assert.equal(waiting.acquired, "after the release");
      }
    }
    assert.match(
      diagnosis.notes.join("\n"),
      /waiters are not woken .*: no inotify\(7\) instance was free \(0 for/,
    );
  },
  "user namespaces",
  "inotify(7)",
);

test(
  "doctor: a FUSE file system can be locked, and another mount may not see it",
  async () => {
    using mount = bindMount();
    const diagnosis = await diagnosed([mount.path]);
    assert.deepEqual(diagnosis.problems, []);
    assert.deepEqual(states(diagnosis), ALL_WORK);
    assertMeasured(diagnosis);
    assert.equal(diagnosis.paths[0]?.local, false);
    if (!hasCapability("file descriptors")) return;
    assert.match(
      diagnosis.notes.join("\n"),
      /with a second mount of it to test/,
    );
  },
  "bindfs(1) and FUSE",
);

test(
  "doctor: locks that do not exclude across two mounts are found",
  async () => {
    using dir = tempDir();
    using mount = bindMount(dir.path);
    const diagnosis = await diagnosed([dir.path, mount.path], {
      acquisitions: 50,
    });
    assert.equal(diagnosis.verdict, "broken");
    const state = (locker: string) => hasRecords ? locker : "unavailable";
    assert.deepEqual(states(diagnosis), {
      flock: "broken",
      ofd: state("broken"),
      lockf: state("broken"),
    });
    const [flock] = diagnosis.lockers;
    const overlaps = flock?.views.map(({ holder, contender, trials }) => [
      holder === contender,
      trials.some(({ expected, overlap }) => !expected && overlap > 0),
    ]);
    assert.deepEqual(overlaps, [
      [true, false],
      [false, true],
      [false, true],
      [true, false],
    ]);
    assert.ok(flock?.contest && flock.contest.overlaps > 0);
    assert.ok(flock.contest.longestOverlap > 0);
    assert.match(
      diagnosis.problems[0] ?? "",
      /^flock\(2\) does not exclude across the two paths: .* for [\d.]+ ms; let all processes use the same path/,
    );
  },
  "bindfs(1) and FUSE",
);

test(
  "doctor: a mount that forwards flock(2) and caches content is limited",
  async () => {
    using dir = tempDir();
    using mount = bindMount(
      dir.path,
      "--multithreaded",
      "--enable-lock-forwarding",
      "-o",
      "attr_timeout=600,entry_timeout=600",
    );
    const diagnosis = await diagnosed([dir.path, mount.path]);
    assert.equal(diagnosis.verdict, "limited");
    assert.equal(states(diagnosis).flock, "works");
    // bindfs takes the record locks of all processes as its own.
    if (hasRecords) assert.equal(states(diagnosis).ofd, "broken");
    const [flock] = diagnosis.lockers;
    assert.equal(flock?.contest?.overlaps, 0);
    const stale = flock.views.filter(({ readsBack }) => !readsBack)
      .map(({ holder, contender }) => [holder, contender]);
    assert.deepEqual(stale, [[dir.path, mount.path]]);
    // The server of the mount closes the file of the directory, too.
    const [same, toMount] = flock.views.map(({ waiting }) => waiting?.woken);
    assert.deepEqual([same, toMount], [hasCapability("inotify(7)"), false]);
    assert.match(
      diagnosis.problems[0] ?? "",
      /flock\(2\) did not see what another process had written/,
    );
  },
  "bindfs(1) and FUSE",
);

test(
  "doctor: two names of one mount exclude, and show no more than one",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "real");
    const other = join(dir.path, "link");
    fs.mkdirSync(path);
    fs.symlinkSync(path, other);
    const diagnosis = await diagnosed([path, other]);
    assert.deepEqual(diagnosis.problems, []);
    assertMeasured(diagnosis);
    assert.equal(diagnosis.lockers[0]?.views.length, 4);
    if (!hasCapability("file descriptors")) return;
    assert.match(diagnosis.notes.join("\n"), /are on the same mount/);
  },
  "symbolic links",
);

/** A mode of `tests/c/lock_fs.c`, and what must be found. */
interface Expected {
  verdict: Diagnosis["verdict"];
  flock: string;
  records: string;
  problem: RegExp;
  /** Only with record locks. */
  needsRecords?: true;
  /** What must be tried more often, or for less time. */
  effort?: Partial<Effort>;
}

/** For locks that are never released. */
const SOON = { releaseTimeout: 500 };

const { ENOLCK, EOPNOTSUPP } = constants.errno;

const MODES: Record<string, Expected> = {
  lies: {
    verdict: "broken",
    flock: "broken",
    records: "broken",
    problem:
      /^flock\(2\) does not exclude on .*keep lock files on another file system/,
  },
  liesflock: {
    verdict: "broken",
    flock: "broken",
    records: "works",
    problem: /^flock\(2\) does not exclude on /,
  },
  liesrarely: {
    verdict: "broken",
    flock: "broken",
    records: "works",
    problem: /^flock\(2\) does not exclude/,
    effort: { processes: 4, acquisitions: 50 },
  },
  readers: {
    verdict: "limited",
    flock: "strict",
    records: "works",
    problem: /^flock\(2\) excludes more than it should.*"shared" was refused/,
  },
  whole: {
    verdict: "limited",
    flock: "works",
    records: "strict",
    problem: /excludes more than it should.*"exclusive 100-199" was refused/,
    needsRecords: true,
  },
  keeps: {
    verdict: "broken",
    flock: "broken",
    records: "works",
    problem: /^flock\(2\) does not release on /,
    effort: SOON,
  },
  immortal: {
    verdict: "broken",
    flock: "broken",
    records: "works",
    problem: /^flock\(2\) outlives its process on /,
    effort: SOON,
  },
  [String(ENOLCK)]: {
    verdict: "broken",
    flock: "refused",
    records: "refused",
    problem: /^flock\(2\) fails: .*\(ENOLCK\); on NFS/,
  },
  [String(EOPNOTSUPP)]: {
    verdict: "broken",
    flock: "refused",
    records: "refused",
    problem:
      /^flock\(2\) fails: .*\((EOPNOTSUPP|ENOTSUP)\); keep lock files on another/,
  },
};

const NAMES: Record<string, string> = {
  [String(ENOLCK)]: "fails with ENOLCK",
  [String(EOPNOTSUPP)]: "fails with EOPNOTSUPP",
};

/** The compiled file system of all tests, which is removed at the end. */
let program: ReturnType<typeof compileLockFileSystem> | undefined;

after(() => program?.[Symbol.dispose]());

function lockFs(mode: string): ReturnType<typeof lockFileSystem> {
  program ??= compileLockFileSystem();
  return lockFileSystem(program.path, mode);
}

for (const [mode, expected] of Object.entries(MODES)) {
  test(
    `doctor: the verdict is right on a file system that ${NAMES[mode] ?? mode}`,
    async () => {
      await using mount = await lockFs(mode);
      const diagnosis = await diagnosed([mount.path], expected.effort);
      assert.deepEqual(fs.readdirSync(mount.source), []);
      const records = hasRecords ? expected.records : "unavailable";
      assert.deepEqual(states(diagnosis), {
        flock: expected.flock,
        ofd: records,
        lockf: records,
      });
      if (expected.needsRecords && !hasRecords) return;
      assert.equal(diagnosis.verdict, expected.verdict);
      assert.match(diagnosis.problems[0] ?? "", expected.problem);
    },
    "libfuse3, cc(1), and root that can mount",
  );
}

test(
  "doctor: a file system that passes locks on is right in every respect",
  async () => {
    await using mount = await lockFs("honest");
    const diagnosis = await diagnosed([mount.path]);
    assert.deepEqual(diagnosis.problems, []);
    assertMeasured(diagnosis);
  },
  "libfuse3, cc(1), and root that can mount",
);
