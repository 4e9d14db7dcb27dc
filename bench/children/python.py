"""A contender in Python, as a process: LOCKER SCENARIO PATH ..."""

import collections
import json
import os
import platform
import sys
import time


def with_portalocker(path):
    import portalocker

    # The default of 5 s would end a wait of the busier scenarios.
    return portalocker.Lock(path, timeout=60), portalocker.__version__


def with_filelock(path):
    import filelock

    return filelock.FileLock(path), filelock.__version__


def uncontended(lock, path, warm_up, milliseconds):
    measure(lock, int(warm_up))
    samples = measure(lock, int(milliseconds))
    return {"clock": clock_cost(), "samples": samples}


def measure(lock, milliseconds):
    """Acquires and releases, one after the other, until the time is over."""
    now = time.monotonic_ns
    taken = []
    end = now()
    last = end + milliseconds * 1_000_000
    while end < last:
        start = now()
        lock.acquire()
        lock.release()
        end = now()
        taken.append(end - start)
    return histogram(taken)


def handover(lock, path):
    """See handover.mjs. `monotonic_ns` is CLOCK_MONOTONIC."""
    acquired, released = [], []
    say("ready")
    for command in sys.stdin:
        if command == "acquire\n":
            say("waiting")
            lock.acquire()
            acquired.append(time.monotonic_ns() / 1000)
            say("acquired")
        else:
            released.append(time.monotonic_ns() / 1000)
            lock.release()
    return {"acquired": acquired, "released": released}


def contention(lock, path, milliseconds):
    """See contention.mjs."""
    now = time.monotonic_ns
    counter = os.open(path + ".count", os.O_RDWR)
    count, taken = 0, []
    say("ready")
    time.sleep(max(0, int(sys.stdin.readline()) / 1000 - time.time()))
    last = now() + int(milliseconds) * 1_000_000
    while (start := now()) < last:
        lock.acquire()
        end = now()
        taken.append(end - start)
        # What is acquired too late does not count.
        if end < last:
            number = int.from_bytes(os.pread(counter, 4, 0), sys.byteorder)
            os.pwrite(counter, (number + 1).to_bytes(4, sys.byteorder), 0)
            count += 1
        lock.release()
    return {"count": count, "samples": histogram(taken)}


def clock_cost():
    now = time.monotonic_ns
    return sorted(-now() + now() for _ in range(10_001))[5_000]


def histogram(taken):
    return sorted(collections.Counter(map(three_digits, taken)).items())


def three_digits(value):
    unit = 1
    while value >= 1000 * unit:
        unit *= 10
    return (value + unit // 2) // unit * unit


def say(value):
    print(json.dumps(value), flush=True)


LOCKERS = {"portalocker": with_portalocker, "filelock": with_filelock}
SCENARIOS = {
    "uncontended": uncontended,
    "handover": handover,
    "contention": contention,
}

locker, scenario, path, *arguments = sys.argv[1:]
lock, version = LOCKERS[locker](path)
result = SCENARIOS[scenario](lock, path, *arguments)
runtime = "Python %s with %s %s" % (platform.python_version(), locker, version)
say({"runtime": runtime, **result})
