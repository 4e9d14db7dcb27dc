"""A contender in Python, as a process: DRIVER SCENARIO PATH ..."""

import collections
import json
import os
import platform
import sys
import time


def with_portalocker(path):
    import portalocker

    # The default of 5 s would end a wait of the busier scenarios.
    lock = portalocker.Lock(path, timeout=60)
    return lock, "portalocker " + portalocker.__version__


def with_filelock(path):
    import filelock

    return filelock.FileLock(path), "filelock " + filelock.__version__


def in_place(path, durable, truncate_first=False):
    """Changes a file under a lock on itself, as portalocker is used."""
    import portalocker

    def change(compute):
        with portalocker.Lock(path, "r+", timeout=60) as file:
            text = compute(file.read())
            if text is None:
                return
            file.seek(0)
            if truncate_first:
                file.truncate()
            file.write(text)
            if not truncate_first:
                file.truncate()
            # Otherwise it would be unlocked before it is written.
            file.flush()
            if durable:
                os.fsync(file.fileno())

    return change, "portalocker " + portalocker.__version__


def truncating(path, durable):
    return in_place(path, durable, truncate_first=True)


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
    start_together()
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


def update(change, path, milliseconds):
    """See update.mjs."""
    now = time.monotonic_ns
    count, taken = 0, []

    def add_one_in_time(text):
        nonlocal count
        # What is locked too late does not count.
        if now() >= last:
            return None
        count += 1
        content = json.loads(text)
        content["number"] += 1
        return json.dumps(content)

    start_together()
    last = now() + int(milliseconds) * 1_000_000
    while (start := now()) < last:
        change(add_one_in_time)
        taken.append(now() - start)
    return {"count": count, "samples": histogram(taken)}


def start_together():
    """Says that this process is ready, and waits for the moment it is told."""
    say("ready")
    time.sleep(max(0, int(sys.stdin.readline()) / 1000 - time.time()))


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


DRIVERS = {
    "portalocker": with_portalocker,
    "filelock": with_filelock,
    "portalocker-durable": lambda path: in_place(path, True),
    "portalocker-not-durable": lambda path: in_place(path, False),
    "portalocker-truncating-durable": lambda path: truncating(path, True),
    "portalocker-truncating-not-durable": lambda path: truncating(path, False),
}
SCENARIOS = {
    "uncontended": uncontended,
    "handover": handover,
    "contention": contention,
    "update": update,
}

driver, scenario, path, *arguments = sys.argv[1:]
driven, library = DRIVERS[driver](path)
result = SCENARIOS[scenario](driven, path, *arguments)
runtime = "Python %s with %s" % (platform.python_version(), library)
say({"runtime": runtime, **result})
