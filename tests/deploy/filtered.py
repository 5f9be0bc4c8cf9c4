"""Runs a program under the system call filters of a unit, as systemd would, with no memory that is written and run.

usage: /usr/bin/python3 tests/deploy/filtered.py UNIT PROGRAM [ARGUMENT ...]      (Debian packages python3-seccomp, systemd)
"""

import errno
import os
import subprocess
import sys

import seccomp

PROT_WRITE, PROT_EXEC = 2, 4


def calls(name):
    """The system calls of a name, which may be a group."""
    if not name.startswith("@"):
        return {name}
    told = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True).stdout
    words = (line.strip() for line in told.splitlines()[1:])
    return {call for word in words if word and not word.startswith("#") for call in calls(word)}


allowed = set()
with open(sys.argv[1], encoding="utf-8") as unit:
    for line in unit:
        if line.startswith("SystemCallFilter="):
            for name in line.split("=", 1)[1].split():
                if name.startswith("~"):
                    allowed -= calls(name[1:])
                else:
                    allowed |= calls(name)
if not allowed:
    sys.exit("the unit filters nothing")

rules = seccomp.SyscallFilter(defaction=seccomp.ERRNO(errno.EPERM))
both = PROT_WRITE | PROT_EXEC
for call in sorted(allowed):
    try:
        if call == "mprotect":
            rules.add_rule(seccomp.ALLOW, call, seccomp.Arg(2, seccomp.MASKED_EQ, PROT_EXEC, 0))
        elif call == "mmap":
            for protection in (0, PROT_WRITE, PROT_EXEC):
                rules.add_rule(seccomp.ALLOW, call, seccomp.Arg(2, seccomp.MASKED_EQ, both, protection))
        else:
            rules.add_rule(seccomp.ALLOW, call)
    except (RuntimeError, ValueError, OSError):
        # A call of another architecture.
        pass
rules.load()
os.execv(sys.argv[2], sys.argv[2:])
