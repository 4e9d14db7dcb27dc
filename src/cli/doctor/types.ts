/** What `portalock doctor` reports, as plain data. Times are milliseconds. */

/** The kinds of locks: see the option `locker` of `Lock`. */
export type LockerName = "flock" | "ofd" | "lockf";

/** The result of {@linkcode diagnose}. It can be serialized as JSON. */
export interface Diagnosis {
  /**
   * Whether the paths can be used for locks of the kind {@linkcode locker}.
   *
   * - `"works"`: they can, and everything else works, too.
   * - `"limited"`: they can, and {@linkcode problems} lists what does not work.
   * - `"broken"`: they cannot.
   */
  verdict: "works" | "limited" | "broken";
  /** The kind of lock that decides. */
  locker: LockerName;
  /** What does not work, and what to do. Empty if everything works. */
  problems: string[];
  /** What to know about these paths. */
  notes: string[];
  /** The paths, as they were given: one, or two views of one directory. */
  paths: PathReport[];
  /** The runtime and the system that ran the tests. */
  runtime: RuntimeReport;
  /** Each kind of lock. */
  lockers: LockerReport[];
  /**
   * Whether flock(2) and record locks of fcntl(2) conflict with each other, as
   * on NFS. `null` if one of them is not available.
   */
  kindsConflict: boolean | null;
  /** What `writeAtomic` and `updateFile` can do here. */
  writes: WriteReport;
  /** The limits of inotify(7), or `null` if they are unknown. */
  inotify: InotifyReport | null;
  /** How long the tests took. */
  duration: number;
}

/** A path that was tested. */
export interface PathReport {
  /** The path as it was given. */
  path: string;
  /** The path without symbolic links. */
  realPath: string;
  /** What it is. */
  type: "directory" | "file";
  /** The directory in which the tests created a directory of their own. */
  directory: string;
  /** The file system of the directory, or `null` if it is unknown. */
  fileSystem: FileSystemReport | null;
  /**
   * Whether the directory is known to be on a file system of this machine.
   * `false` for network file systems and for FUSE.
   */
  local: boolean;
  /** The permission bits of the path, in octal digits. */
  mode: string;
  /** The user that owns the path, or `null` if the system does not say. */
  owner: number | null;
  /** The user of this process, or `null` if it is unknown. */
  user: number | null;
  /** What can be done with the path if it is a file, or `null`. */
  file: FileReport | null;
}

/** A mounted file system, as in /proc/self/mountinfo. */
export interface FileSystemReport {
  /** Its type, such as `"ext4"` or `"nfs4"`. */
  type: string;
  /** The device or the server. */
  source: string;
  /** Where it is mounted. */
  mountPoint: string;
  /** Its options, such as `"rw"` and `"relatime"`. */
  options: string[];
}

/** What can be done with a file. Neither is tried, and no lock is taken. */
export interface FileReport {
  /** Whether this process may write it. */
  writable: boolean;
  /** Whether a process can replace it by another file, in one step. */
  replaceable: boolean;
  /** How `updateFile` changes it. `null`: it cannot. */
  updates: "replace" | "in place" | null;
  /** The processes that hold locks on it. */
  holders: number[];
}

/** The runtime, and how it calls the system. */
export interface RuntimeReport {
  /** Such as `"Node 26.10.0"`. */
  name: string;
  /** Such as `"linux x64"`. */
  system: string;
  /** What calls the system, such as `"node:ffi"`. */
  calls: string;
}

/** The limits of inotify(7), which wakes waiters: see proc_sys_fs(5). */
export interface InotifyReport {
  /** How many instances a user may have. Each waiting process needs one. */
  maxInstances: number;
  /** How many files a user may watch. Each file that is waited for is one. */
  maxWatches: number;
}

/** What one kind of lock does. */
export interface LockerReport {
  /** The kind of lock. */
  locker: LockerName;
  /** The system call, such as `"flock(2)"`. */
  call: string;
  /**
   * - `"works"`: it does what it promises.
   * - `"strict"`: it excludes more than it should, which is safe.
   * - `"local"`: it excludes only processes of this machine, because of a mount
   *   option, although the file system is on a network.
   * - `"broken"`: it does not exclude, or a lock is not released.
   * - `"refused"`: the system call fails.
   * - `"unavailable"`: the runtime or the operating system does not have it.
   */
  state: "works" | "strict" | "local" | "broken" | "refused" | "unavailable";
  /** The error if it is refused or not available. */
  error: ErrorReport | null;
  /** One for each pair of paths: the holder uses one, the contender another. */
  views: ViewReport[];
  /**
   * Processes that contended without a pause. `null` if it is refused, or if a
   * lock was not released.
   */
  contest: ContestReport | null;
}

/** An error of the system. */
export interface ErrorReport {
  /** Its name, such as `"ENOLCK"`, or `null`. */
  code: string | null;
  /** What it says. */
  message: string;
}

/** What two processes measured that lock one file, each by its path. */
export interface ViewReport {
  /** The path of the process that holds the lock. */
  holder: string;
  /** The path of the process that requests the lock. */
  contender: string;
  /** The attempts to overlap. */
  trials: TrialReport[];
  /**
   * Whether the holder of a lock reads what the holder before it has written.
   * `null`: see {@linkcode killed}.
   */
  readsBack: boolean | null;
  /**
   * What happened when a holder was killed with `SIGKILL`. `null`: it was not
   * tried, because a lock was not released before.
   */
  killed: KillReport | null;
  /** How a waiter learned of a release. `null`: see {@linkcode killed}. */
  waiting: WaitReport | null;
}

/** The attempt of a process to lock a file while another one holds a lock. */
export interface TrialReport {
  /** The lock of the holder, such as `"exclusive"` or `"exclusive 0-99"`. */
  held: string;
  /** The lock that the contender requested. */
  requested: string;
  /** Whether the contender should acquire it. */
  expected: boolean;
  /** Whether the contender acquired it. */
  acquired: boolean;
  /** How long both certainly held their locks at the same time. */
  overlap: number;
  /** Whether the contender acquired the lock after the release. */
  acquiredAfterRelease: boolean;
}

/** What happened when a holder was killed. */
export interface KillReport {
  /** What a waiter got. `"early"`: the lock, while the holder was alive. */
  acquired: "after the kill" | "early" | "never";
  /** How long the lock was held after the kill, or `null`. */
  freedAfter: number | null;
}

/** How a waiter learned of a release. */
export interface WaitReport {
  /** What it got. `"early"`: the lock, while its holder had it. */
  acquired: "after the release" | "early" | "never";
  /** Whether the kernel reports the release. Otherwise the waiter polls. */
  woken: boolean;
  /**
   * The median of the times from a release until the waiter had the lock, or
   * `null`.
   */
  handOver: number | null;
  /** The longest of them, or `null`. */
  longest: number | null;
  /** How far the clocks of two processes may differ. */
  clockError: number;
}

/** Processes that acquire one lock again and again. */
export interface ContestReport {
  /** How many processes contended. */
  processes: number;
  /** For how long. */
  duration: number;
  /** How often a process acquired the lock. */
  acquired: number;
  /** How often it had to wait for another process. */
  waited: number;
  /**
   * How often it stayed inside for longer than the clocks differ. Only these
   * times can be compared.
   */
  compared: number;
  /** How far the clocks of two processes may differ. */
  clockError: number;
  /** How often two processes were certainly inside that must not be. */
  overlaps: number;
  /** The longest time that two of them overlapped. */
  longestOverlap: number;
  /** How many processes gave up, after seconds. */
  gaveUp: number;
  /**
   * How often a process did not read what the one before had written: each
   * increments a counter in the file.
   */
  staleReads: number;
}

/** What `writeAtomic` and `updateFile` can do. */
export interface WriteReport {
  /** Whether a file can be replaced in one step, by rename(2). */
  replaces: boolean;
  /** Whether a new file appears only if no other file exists, by link(2). */
  hardLinks: boolean;
  /** Whether the file system keeps permission bits. */
  permissions: boolean;
  /** Whether directories can be synced, to survive a crash of the system. */
  syncsDirectory: boolean;
  /** Whether a file can be overwritten in place. */
  inPlace: boolean;
  /** The first error, or `null`. */
  error: ErrorReport | null;
  /**
   * Processes that called `updateFile` on one file at the same time. `null` if
   * it failed, or was not tried, because a lock was not released.
   */
  updates: UpdateReport | null;
}

/** Processes that called `updateFile` on one file at the same time. */
export interface UpdateReport {
  /** How many processes. */
  processes: number;
  /** How many updates they made. */
  made: number;
  /** How many of them the file does not contain. */
  lost: number;
}

/** How much is tried. More attempts find a fault that is rarer. */
export interface Effort {
  /** How many processes there are: at least 2. */
  processes: number;
  /** How often each of them acquires a lock while they contend. */
  acquisitions: number;
  /** How often each of them calls `updateFile`. */
  updates: number;
  /** How often a process waits for a release. */
  handOvers: number;
  /**
   * How long a lock may last after its release or the death of its holder, in
   * milliseconds.
   */
  releaseTimeout: number;
}

/** Options of {@linkcode diagnose}. */
export interface DiagnoseOptions {
  /**
   * The kind of lock that decides the verdict.
   *
   * @default {"flock"}
   */
  locker?: LockerName | undefined;
  /**
   * The command that starts a process which calls {@linkcode runProbe}.
   *
   * @default The program of this process, with {@linkcode PROBE_ARGUMENT}
   */
  command?: readonly string[] | undefined;
  /** How much is tried, if it is not what the command tries. */
  effort?: Partial<Effort> | undefined;
  /** Ends the tests. Nothing is left behind. */
  signal?: AbortSignal | undefined;
}
