"""Run a command; write its exit code, seconds and peak memory (bytes) to a JSON file.

    python measured.py OUT.json COMMAND…

A process of its own, without imports: the peak that Linux reports of a process is at least the
memory of the process that started it.
"""

import json
import os
import sys
import time

if __name__ == "__main__":
    out, *command = sys.argv[1:]
    start = time.monotonic()
    child = os.posix_spawn(command[0], command, os.environ)
    _, status, usage = os.wait4(child, 0)
    unit = 1 if sys.platform == "darwin" else 1024
    with open(out, "w", encoding="utf-8") as file:
        json.dump({"code": os.waitstatus_to_exitcode(status),
                   "seconds": time.monotonic() - start,
                   "cpu_seconds": usage.ru_utime + usage.ru_stime,
                   "peak": usage.ru_maxrss * unit}, file)
