# SPDX-License-Identifier: Apache-2.0
"""Reads the progress of a running command from the end of its log."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

TAIL_BYTES = 16_384
"""Size of the part of a log that is read."""
MARK = "::: "
"""Begins the line that the studio writes into a log before each command."""
MILLISECONDS = re.compile(r"(^|, )[\d.]+ ms$")
STAGE = re.compile(r"^(?P<what>[A-Z][^:]{2,80}): (?P<done>[\d,]+) of (?P<total>[\d,]+)( \(\d+%\))?(, (?P<left>.+))?$")
STEP = re.compile(r"^(?P<step>\d+) \((?P<percent>[\d.]+)%\)(?P<columns>.*)$")
HEADER = re.compile(r"^Step \(% Done\)(?P<names>.*)$")
PLACED = re.compile(r"(?P<registered>\d+) of (?P<photos>\d+) photos registered")
ERROR = re.compile(r"^Error: (?P<message>.+)$")
ALREADY_TRAINED = re.compile(r"already has (\d+) of \1 steps")
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True)
class Progress:
    """The progress of a command."""

    doing: str
    """What it is doing, in a few words."""
    fraction: float | None
    """Fraction of that which is done, in [0, 1]; None if unknown."""
    details: str
    """Time left, quality and the like."""
    placed: str
    """Number of photos that have been placed, in words; empty until it is known."""


def tail(log: Path) -> list[str]:
    """The last lines of a log, without control codes."""
    if not log.is_file():
        return []
    with log.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - TAIL_BYTES))
        text = file.read().decode("utf8", "replace")
    return [CONTROL.sub("", line).strip() for line in text.splitlines()]


def of_command(lines: list[str]) -> list[str]:
    """The lines of the last command."""
    starts = [number for number, line in enumerate(lines) if line.startswith(MARK)]
    return lines[starts[-1] + 1 :] if starts else lines


def progress(lines: list[str]) -> Progress:
    """The progress of the last command in a log."""
    doing, fraction, details, placed, names = "Starting", None, "", "", []
    for line in of_command(lines):
        if match := HEADER.match(line):
            names = re.split(r"\s{2,}", match["names"].strip())
            continue
        if match := STEP.match(line):
            doing, fraction = "Training", float(match["percent"]) / 100
            values = re.split(r"\s{2,}", match["columns"].strip())
            shown = dict(zip(names, values, strict=False))
            details = _of_table(int(match["step"]), shown)
        elif match := STAGE.match(line):
            doing, details = match["what"], match["left"] or ""
            total = int(match["total"].replace(",", ""))
            fraction = int(match["done"].replace(",", "")) / total if total else None
        elif match := PLACED.search(line):
            placed = f"{match['registered']} of {match['photos']} photos placed"
            doing, fraction, details = "Photos are placed", None, ""
        elif line.endswith(" photos)") or re.match(r"^(Solving|Triangulating|Computing|Finding|Training into)", line):
            doing, fraction, details = _first_words(line), None, ""
    return Progress(doing, fraction, details, placed)


def failure(lines: list[str]) -> str:
    """Why the last command in a log failed, in one line."""
    lines = [line for line in of_command(lines) if line]
    errors = [match["message"] for line in lines if (match := ERROR.match(line))]
    return errors[-1] if errors else (lines[-1] if lines else "it printed nothing")


def _of_table(step: int, shown: dict[str, str]) -> str:
    parts = [f"step {step:,}"]
    if gaussians := shown.get("Gaussians"):
        parts.append(f"{gaussians} Gaussians")
    if psnr := shown.get("Train PSNR"):
        parts.append(f"{float(psnr):.1f} dB" if re.fullmatch(r"[\d.]+", psnr) else psnr)
    if eta := next((value for name, value in shown.items() if name.startswith("ETA")), ""):
        eta = MILLISECONDS.sub("", eta) or "1 s"
        parts.append(f"{eta} left")
    return ", ".join(parts)


def _first_words(line: str) -> str:
    """A line of a log without the notes that make sense only there."""
    return "Training" if line.startswith("Training into") else re.split(r" \(once|, kept in", line)[0]
