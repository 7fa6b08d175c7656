"""What a process costs the machine."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Final

from waemitter.errors import UsageError


class Meter:
    """CPU and memory of a running process, all its threads together. Raises UsageError without psutil."""

    def __init__(self, pid: int) -> None:
        try:
            psutil: Any = importlib.import_module("psutil")
        except ModuleNotFoundError:
            raise UsageError(
                "the bench measures processes with psutil: run `pip install psutil`, or `make bench`"
            ) from None
        self._process: Final = psutil.Process(pid)

    def cpu(self) -> float:
        """Seconds of CPU so far, user's and system's."""
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def resident(self) -> int:
        """Bytes of memory in use (RSS)."""
        return int(self._process.memory_info().rss)

    def executable(self) -> Path:
        return Path(self._process.exe())
