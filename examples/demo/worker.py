"""The same as worker.mjs, with Python's portalocker on the same file."""

import json
import platform
import sys
import time

import portalocker

REPORT_INTERVAL = 0.1
OTHER_WORK = 0.001
ONE_DAY = 24 * 60 * 60


def with_lock(counter, check_interval):
    lock = portalocker.Lock(
        counter,
        "r+",
        timeout=ONE_DAY,
        check_interval=check_interval / 1000,
        flags=portalocker.LOCK_EX | portalocker.LOCK_NB,
    )

    def increment():
        start = time.perf_counter()
        with lock as file:
            waited = time.perf_counter() - start
            count = int(file.read())
            file.seek(0)
            file.write(digits(count + 1))
            # portalocker unlocks before it closes the file.
            file.flush()
        return waited

    return increment


def without_lock(counter):
    def increment():
        with open(counter, "r+b", buffering=0) as file:
            text = file.read()
            count = int(text) if text.isdigit() else 0
            file.seek(0)
            file.write(digits(count + 1).encode())
        return 0

    return increment


def digits(count):
    return f"{count:012}"


def work(increments, increment):
    start = reported = time.perf_counter()
    longest_wait = 0
    for done in range(1, increments + 1):
        longest_wait = max(longest_wait, increment())
        now = time.perf_counter()
        if done == increments or now - reported >= REPORT_INTERVAL:
            reported = now
            send(done=done, seconds=now - start, longestWait=longest_wait * 1000)
        time.sleep(OTHER_WORK)


def send(**message):
    print(json.dumps(message), flush=True)


task = json.loads(sys.argv[1])
if task["locked"]:
    increment = with_lock(task["counter"], task["checkInterval"])
else:
    increment = without_lock(task["counter"])
send(ready=f"Python {platform.python_version()}")
if sys.stdin.readline():
    work(task["increments"], increment)
