"""portalocker's Lock, as a process: SCENARIO PATH WARM_UP MILLISECONDS."""

import collections
import json
import platform
import sys
import time

import portalocker


def uncontended(path, warm_up, milliseconds):
    lock = portalocker.Lock(path)
    measure(lock, int(warm_up))
    samples = measure(lock, int(milliseconds))
    return {"clock": clock_cost(), "samples": samples}


def measure(lock, milliseconds):
    """Acquires and releases, one after the other, until the time is over."""
    now = time.perf_counter_ns
    taken = []
    end = now()
    last = end + milliseconds * 1_000_000
    while end < last:
        start = now()
        lock.acquire()
        lock.release()
        end = now()
        taken.append(end - start)
    return sorted(collections.Counter(map(three_digits, taken)).items())


def clock_cost():
    now = time.perf_counter_ns
    return sorted(-now() + now() for _ in range(10_000))[5_000]


def three_digits(value):
    unit = 1
    while value >= 1000 * unit:
        unit *= 10
    return (value + unit // 2) // unit * unit


scenario, *arguments = sys.argv[1:]
result = {"uncontended": uncontended}[scenario](*arguments)
result["runtime"] = "Python %s with portalocker %s" % (
    platform.python_version(),
    portalocker.__version__,
)
print(json.dumps(result))
