"""How many threads to compute with: what the container may use, not what the host has."""

import math
import os
from pathlib import Path


def available_cores(control_groups: Path = Path("/sys/fs/cgroup")) -> int:
    """The cores of this process: its CPU affinity, cut down to the container's CPU quota (cgroup v2 or v1)."""
    cores = len(os.sched_getaffinity(0))
    quota = _quota(control_groups)
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def _quota(control_groups: Path) -> float | None:
    """Cores' worth of time a period, or None where there is no limit."""
    unified = control_groups / "cpu.max"
    if unified.is_file():
        quota, period = unified.read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    legacy = control_groups / "cpu" / "cpu.cfs_quota_us"
    if legacy.is_file():
        quota = int(legacy.read_text())
        return None if quota <= 0 else quota / int((legacy.parent / "cpu.cfs_period_us").read_text())
    return None
