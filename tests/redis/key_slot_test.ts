import assert from "node:assert/strict";
import { keySlot } from "../../src/redis/protocol/key_slot.ts";
import { lockKeys } from "../../src/redis/protocol/keys.ts";
import { test } from "../support/test.ts";
import { RedisCluster } from "./support/cluster.ts";

const SLOTS: [key: string, slot: number][] = [
  ["", 0],
  // The check value of CRC-16/XMODEM, 0x31C3.
  ["123456789", 12_739],
  ["foo", 12_182],
  ["{foo}", 12_182],
  ["portalock:v1:{foo}:queue", 12_182],
  // An empty tag does not count.
  ["{}", 15257],
  ["{}{a}", 13650],
  // The UTF-8 bytes count.
  ["ä", 13929],
  ["🔒", 15505],
];

/** Pairs with equal slots: a key, and the part of it that is hashed. */
const TAGS: [key: string, tag: string][] = [
  ["a{b}{c}", "b"],
  ["foo{bar}{zap}", "bar"],
  ["foo{{bar}}zap", "{bar"],
  ["a}{b}", "b"],
  ["{ä ö 🔒}:queue", "ä ö 🔒"],
];

/** Other keys without a tag. */
const WHOLE = ["a{}b", "a{b", "a}b", "}a{", "\ud800"];

test("Redis key slots: a known key has its slot", () => {
  for (const [key, slot] of SLOTS) assert.equal(keySlot(key), slot, key);
});

test("Redis key slots: of a key with a hash tag, only the tag counts", () => {
  for (const [key, tag] of TAGS) {
    // Without braces around it, the tag itself is hashed.
    assert.equal(keySlot(key), keySlot(tag), key);
    assert.notEqual(keySlot(key), keySlot(key.replaceAll(/[{}]/g, "-")), key);
  }
});

test("Redis key slots: the server computes the same slots", async () => {
  await using cluster = await RedisCluster.start();
  const keys = [...SLOTS, ...TAGS].map(([key]) => key);
  const space = { prefix: "", sharded: true };
  for (let i = 0; i < 50; i++) keys.push(lockKeys(`ключ ${i}`, space).queue);
  for (const key of [...keys, ...TAGS.map(([, tag]) => tag), ...WHOLE]) {
    assert.equal(keySlot(key), await cluster.slotOf(key), key);
  }
}, "redis-server");
