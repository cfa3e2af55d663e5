#!/usr/bin/env python3
"""Switches every guard of tests/guards.toml off, one at a time, and looks which test goes red.

    tests/guards.py            every guard; takes a build and a test run each
    tests/guards.py WORD...    those whose name contains one of the words
    tests/guards.py --check    only whether the table fits the code

Works on a copy in target/guards, never on the tree itself. The first build takes its time; then each takes about a
quarter of a minute, if TMPDIR is in memory. Prints a table: guard, file, test, line of the failure. Ends with 1 if a
guard is missed by nobody.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

HOUSE = Path(__file__).resolve().parent.parent
SECONDS_MAX = 300


def copy_tree(to):
    """What git knows, and what is new and not ignored."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=HOUSE, check=True, capture_output=True).stdout
    for name in filter(None, names.decode().split("\0")):
        source, target = HOUSE / name, to / name
        if not source.is_file():
            continue
        # What is the same stays, so that cargo builds only what has changed.
        if target.is_file() and target.read_bytes() == source.read_bytes():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        shutil.copymode(source, target)


def run(tree, test, environment):
    """The test that failed, and where; or none, and why."""
    command = ["cargo", "test", "--locked", *test.split()]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(
        command, cwd=tree, env=environment, start_new_session=True, **pipes
    ) as ran:
        try:
            told = ran.communicate(timeout=SECONDS_MAX)
        except subprocess.TimeoutExpired:
            return test.split()[-1], f"no end after {SECONDS_MAX} s"
        finally:
            # What cargo has started as well.
            if ran.poll() is None:
                os.killpg(ran.pid, signal.SIGKILL)
    out, err = (text.decode(errors="replace") for text in told)
    if "could not compile" in err:
        return None, "**does not build**"
    if ran.returncode == 0:
        none = re.search(r"^test result: ok. 0 passed", out, re.M)
        return None, "**no such test**" if none else "**nobody misses it**"
    failed = re.findall(r"^test (\S+) \.\.\. FAILED", out, re.M)
    if not failed:
        return (test, "ended by a signal") if "signal:" in err else (None, "**no test was run**")
    # What a test printed stands below its name.
    printed = re.search(r"^---- (\S+) stdout ----$(.*?)(?=^---- |\Z)", out, re.M | re.S)
    where = printed and re.search(r" panicked at (\S+?):\d+:$", printed[2], re.M)
    more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
    return (printed[1] if printed else failed[0]) + more, where[1] if where else "?"


def main():
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    guards = tomllib.loads((HOUSE / "tests/guards.toml").read_text())["guard"]
    for guard in guards:
        count = (HOUSE / guard["file"]).read_text().count(guard["on"])
        if count != 1:
            raise SystemExit(f"{guard['guard']}: {count} times in {guard['file']}")
    if "--check" in sys.argv:
        return
    # A target directory of its own: to cargo both trees are the same, and it would mix them up.
    place = HOUSE / "target/guards"
    tree = place / "tree"
    environment = dict(os.environ, CARGO_TARGET_DIR=str(place / "target"), RUST_BACKTRACE="0")
    environment |= {"CARGO_PROFILE_DEV_OPT_LEVEL": "0", "CARGO_PROFILE_DEV_DEBUG": "none"}
    missed = 0
    print("| guard | off in | test | red at |\n|---|---|---|---|", flush=True)
    for guard in guards:
        if words and not any(word in guard["guard"] for word in words):
            continue
        copy_tree(tree)
        path = tree / guard["file"]
        path.write_text(path.read_text().replace(guard["on"], guard["off"]))
        test, where = run(tree, guard["test"], environment)
        missed += test is None
        row = [guard["guard"], f"`{guard['file']}`", f"`{test or guard['test']}`", where]
        print("|", " | ".join(row), "|", flush=True)
    sys.exit(missed > 0)


if __name__ == "__main__":
    main()
