"""Output that nobody reads: the program goes on and says nothing of it."""

import subprocess
import sys

PRINT = """if True:
    import sys
    from kt_exp.standard_streams import open_standard_streams, print_if_possible
    open_standard_streams()
    for _ in range(2):
        print_if_possible(lambda: print("x" * 100_000))
    print("more")
    print("went on", file=sys.stderr)
    """


def run(redirection: str) -> subprocess.CompletedProcess[str]:
    shell = f'exec "{sys.executable}" -c "$0" {redirection}'
    return subprocess.run(["bash", "-c", shell, PRINT], capture_output=True, text=True, check=False)


def test_a_reader_that_has_gone():
    ended = run("> >(exec true)")
    assert (ended.returncode, ended.stderr) == (0, "went on\n")


def test_a_closed_output():
    ended = run(">&-")
    assert (ended.returncode, ended.stderr) == (0, "went on\n")


def test_a_full_disk_is_said_once():
    ended = run("> /dev/full")
    assert ended.returncode == 0
    assert ended.stderr.splitlines() == [
        "Standard output cannot be written: No space left on device", "went on"]
