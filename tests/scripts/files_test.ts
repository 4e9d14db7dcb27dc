import assert from "node:assert/strict";
import { test } from "node:test";
import { selectFiles } from "../../scripts/test/files.ts";

const ALL = [
  "tests/architecture_test.ts",
  "tests/lock/lock_test.ts",
  "tests/lock/rlock_test.ts",
  "tests/redis/redis_lock_test.ts",
  "tests/redis/cleanup_test.ts",
  "tests/redis/scripts_test.ts",
  "tests/scripts/files_test.ts",
];

test("a test file is selected by its exact name", () => {
  for (
    const name of [
      "lock_test",
      "lock_test.ts",
      "lock/lock_test.ts",
      "tests/lock/lock_test.ts",
      "./tests/lock/lock_test.ts",
    ]
  ) {
    assert.deepEqual(selectFiles(ALL, [name]), ["tests/lock/lock_test.ts"]);
  }
  assert.deepEqual(selectFiles(ALL, ["redis_lock"]), [
    "tests/redis/redis_lock_test.ts",
  ]);
});

test("a folder stands for the test files in it", () => {
  assert.deepEqual(selectFiles(ALL, ["redis"]), [
    "tests/redis/redis_lock_test.ts",
    "tests/redis/cleanup_test.ts",
    "tests/redis/scripts_test.ts",
  ]);
  assert.deepEqual(selectFiles(ALL, ["tests/redis/"]), [
    "tests/redis/redis_lock_test.ts",
    "tests/redis/cleanup_test.ts",
    "tests/redis/scripts_test.ts",
  ]);
});

test("a file comes before a folder of the same name", () => {
  const file = ["tests/redis/scripts_test.ts"];
  assert.deepEqual(selectFiles(ALL, ["scripts"]), file);
  const folder = ["tests/scripts/files_test.ts"];
  assert.deepEqual(selectFiles(ALL, ["scripts/"]), folder);
  assert.deepEqual(selectFiles(ALL, ["tests/scripts"]), folder);
});

test("several names select each file once, in the order of the files", () => {
  assert.deepEqual(selectFiles(ALL, ["rlock_test", "lock_test", "rlock"]), [
    "tests/lock/lock_test.ts",
    "tests/lock/rlock_test.ts",
  ]);
  assert.deepEqual(selectFiles(ALL, []), ALL);
});

test("an unknown test file is an error that lists the nearest names", () => {
  assert.throws(
    () => selectFiles(ALL, ["lock_test", "clean_test"]),
    (error: Error) =>
      error instanceof RangeError &&
      /^Cannot run "clean_test": .* nearest names: cleanup_test,/.test(
        error.message,
      ),
  );
  // Not every name that contains it.
  assert.throws(() => selectFiles(ALL, ["loc"]), RangeError);
});
