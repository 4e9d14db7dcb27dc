/** Which test files run once, and which run first: the jobs of a run. */

import type { Runtime } from "../setup/mod.ts";

/** The tests of the scripts, which are not compiled to `build/`. */
const SCRIPTS = "scripts/";

/**
 * Files and folders whose tests do not depend on the runtime that runs them:
 * they read files, explore a model, check servers and compilers, or start child
 * processes on every runtime. They run once, on the first of the chosen
 * runtimes.
 */
const ONCE: readonly string[] = [
  "architecture_test.ts",
  "atomic/lost_atomic_file_test.ts",
  "cli/command_test.ts",
  "cli/completion_test.ts",
  "cli/flock_contract_test.ts",
  "cli/redis_test.ts",
  "cli/status_test.ts",
  "cli/terminal_test.ts",
  "cli/doctor_test.ts",
  "cli/doctor/no_answer_test.ts",
  "cli/doctor/self_command_test.ts",
  "ffi/addon_test.ts",
  "ffi/deno_permission_test.ts",
  "ffi/musl_test.ts",
  "ffi/posix_constants_test.ts",
  "ffi/runtime_support_test.ts",
  "lock/garbage_collection_test.ts",
  "lock/hot_reload_test.ts",
  "lock/held_at_end_test.ts",
  "model/",
  "processes/",
  "redis/packages_test.ts",
  "redis/programs_test.ts",
  "redis/scripts_test.ts",
  "redis/servers_test.ts",
  "wait/process_exit_test.ts",
  SCRIPTS,
];

/**
 * The slowest files, in seconds, on two cores. They start first, so that no
 * runtime waits for a slow file at the end.
 */
const SLOW: Readonly<Record<string, number>> = {
  "cli/flock_contract_test.ts": 120,
  "redis/adapters_test.ts": 75,
  "cli/doctor/verdict_test.ts": 70,
  "lock/held_at_end_test.ts": 60,
  "processes/thread_end_test.ts": 45,
  "processes/lock_test.ts": 40,
  "processes/semaphore_test.ts": 30,
  "redis/programs_test.ts": 30,
  "lock/lockers_test.ts": 30,
  "redis/redis_lock_test.ts": 25,
  "cli/doctor/errors_test.ts": 25,
  "redis/connection_loss_test.ts": 24,
  "lock/garbage_collection_test.ts": 24,
  "redis/servers_test.ts": 23,
  "redis/python_interop_test.ts": 22,
  "lock/temporary_file_lock_test.ts": 20,
  "redis/liveness_test.ts": 19,
  "model/redis_model_test.ts": 17,
  "redis/try_acquire_test.ts": 17,
  "redis/python_protocol_test.ts": 16,
  "atomic/stale_temp_files_test.ts": 14,
  "redis/network_faults_test.ts": 14,
  "processes/handover_test.ts": 20,
  "cli/doctor/no_answer_test.ts": 16,
  "cli/doctor/self_command_test.ts": 20,
  "cli/doctor/clean_up_test.ts": 13,
  "redis/cleanup_test.ts": 12,
  "wait/process_exit_test.ts": 11,
  "processes/update_file_test.ts": 20,
  "atomic/system_calls_test.ts": 15,
  "atomic/lost_atomic_file_test.ts": 15,
  "lock/multi_process_test.ts": 8,
  "lock/pid_file_lock_test.ts": 10,
  "ffi/addon_test.ts": 30,
  "ffi/runtime_support_test.ts": 9,
  "interop/portalocker_test.ts": 8,
};

/** Whether the tests of a file do not depend on the runtime. */
export function runsOnce(file: string): boolean {
  const path = file.replace(/^tests\//, "");
  return ONCE.some((each) =>
    each.endsWith("/") ? path.startsWith(each) : path === each
  );
}

/**
 * Returns the runners that run a file: all, the first one if its tests do not
 * depend on the runtime, or none if they need TypeScript and no runner has it.
 */
function runnersOf<Runner extends Pick<Runtime, "extension">>(
  file: string,
  runners: readonly Runner[],
): Runner[] {
  if (!runsOnce(file)) return [...runners];
  const needsSource = file.startsWith(`tests/${SCRIPTS}`);
  return runners
    .filter(({ extension }) => extension === ".ts" || !needsSource).slice(0, 1);
}

/** About how long a file takes, in seconds. */
function expectedSeconds(file: string): number {
  return SLOW[file.replace(/^tests\//, "")] ?? 3;
}

/**
 * Returns what to run: each file on each runtime, the longest first. A runtime
 * starts with a file when the previous runtime has started with the next one,
 * so that files which need all processors do not run at the same time.
 */
export function jobsFor<Runner extends Pick<Runtime, "extension">>(
  files: readonly string[],
  runners: readonly Runner[],
): { runner: Runner; file: string }[] {
  return [...files].sort((a, b) => expectedSeconds(b) - expectedSeconds(a))
    .flatMap((file, position) =>
      runnersOf(file, runners).map((runner, delay) => ({
        job: { runner, file },
        order: position + delay,
      }))
    ).sort((a, b) => a.order - b.order).map(({ job }) => job);
}
