import assert from "node:assert/strict";
import {
  countStale,
  findOverlaps,
  sectionFor,
} from "../../../src/cli/doctor/contest.ts";
import type { Section } from "../../../src/cli/doctor/contest.ts";
import { test } from "../../support/test.ts";

const section = (
  process: number,
  enter: number,
  leave: number,
  exclusive = true,
): Section => ({ process, enter, leave, exclusive });

test("doctor: sections one after the other do not overlap", () => {
  const sections = [section(1, 2, 3), section(0, 0, 1), section(0, 1, 2)];
  assert.deepEqual(findOverlaps(sections), {
    compared: 3,
    count: 0,
    longest: 0,
  });
});

test("doctor: an overlap is found, also with a section that began long before", () => {
  const sections = [
    section(0, 0, 100),
    section(1, 1, 2, false),
    section(2, 10, 15),
    section(1, 40, 120),
  ];
  assert.deepEqual(findOverlaps(sections), {
    compared: 4,
    count: 3,
    longest: 60,
  });
});

test("doctor: readers may overlap, and a writer among them may not", () => {
  const readers = [section(0, 0, 10, false), section(1, 5, 15, false)];
  assert.equal(findOverlaps(readers).count, 0);
  const sections = [...readers, section(2, 12, 13)];
  assert.deepEqual(findOverlaps(sections), {
    compared: 3,
    count: 1,
    longest: 1,
  });
});

test("doctor: a section that is shorter than the clocks differ is not compared", () => {
  const sections = [section(0, 0, 10), section(1, 5, 4), section(2, 6, 6)];
  assert.deepEqual(findOverlaps(sections), {
    compared: 1,
    count: 0,
    longest: 0,
  });
});

test("doctor: half of a section remains when the clocks differ, up to a limit", () => {
  for (const error of [0.01, 0.3, 2, 4]) {
    const section = sectionFor(error);
    assert.ok(section >= 1);
    assert.ok(section - 2 * error >= section / 2, String(error));
  }
  assert.equal(sectionFor(1000), 20);
});

test("doctor: a process does not overlap with itself", () => {
  assert.equal(findOverlaps([section(0, 0, 2), section(0, 1, 3)]).count, 0);
});

test("doctor: a number that was read twice, or never written, is stale", () => {
  assert.equal(countStale([]), 0);
  assert.equal(countStale([2, 0, 1]), 0);
  assert.equal(countStale([0, 1, 1, 2]), 1);
  assert.equal(countStale([0, 1, 99]), 1);
});
