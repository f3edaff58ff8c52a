"""One round: a project is changed and its commands are killed; a run heals it; the oracle looks."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from pathlib import Path

from . import oracle, preload
from .changes import EVERYDAY, NO_PICTURE, SUFFIXES, Changes
from .shop import CRASHED, KILLED, TIMEOUT_S, Ended, Shop

# A command makes 30 (nothing to do) to 1,000 writing calls.
LAST_CALL = 700
# What comes more often is there more often.
COMMANDS = ("run",) * 7 + ("takedown",) * 3 + ("purge", "lift", "lift", "verify", "retry")
ACTS = ("kill",) * 5 + ("one",) + ("stop",) * 2


class Round:
    """Round ``number`` of ``seed``: always the same changes, and kills at the same calls.

    ``left_out``: names of changes, COMMANDS and ACTS that are not to come.
    """

    def __init__(self, root: Path, seed: int, number: int, left_out: set[str]) -> None:
        self.shop, self.chance = Shop(root), random.Random(f"{seed}/{number}")
        self.left_out = left_out
        self.changes = Changes(self.shop, self.chance, left_out)
        self.story: list[str] = []
        self.faults: list[str] = []
        self.kills = 0
        self._disarm()
        # SHA-256 of what is taken down, of what may be (a command was killed), of what is purged.
        self.blocked: set[str] = set()
        self.unsure: set[str] = set()
        self.purged: set[str] = set()

    def play(self) -> None:
        """Play the round; what is wrong is in ``faults`` after it, what was done in ``story``."""
        self.story += self.changes.make(self.chance.randrange(6, 12), ["add"])
        self.story += self.changes.make(self.chance.randrange(3), ["copy"])
        if self.chance.random() < 0.6:
            self._command("run")
        for _ in range(self.chance.choice((1, 1, 2, 3))):
            if self.chance.random() < 0.4:
                self.story.append(f"back_up {self.changes.back_up()}")
            self.story += self.changes.make(self.chance.randrange(1, 7))
            self._any_command(self._one_of(COMMANDS), self._one_of(ACTS))
        self._disarm()
        self._command("run")
        if self.changes.by_hand:
            self._command("verify", "--deep", "--fix")
        self.faults += oracle.faults(self.shop.root, self.blocked)
        self._expect_nothing_to_do()

    def clear(self, keep: Path | None) -> None:
        """Delete the project, or move it to ``keep``."""
        if keep is not None:
            shutil.rmtree(keep, ignore_errors=True)
            keep.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(self.shop.root, keep)
        for folder in (self.shop.root, self.shop.beside):
            shutil.rmtree(folder, ignore_errors=True)

    # --- commands ---

    def _one_of(self, names: tuple[str, ...]) -> str:
        return self.chance.choice([name for name in names if name not in self.left_out])

    def _arm(self, act: str) -> None:
        if not preload.is_loaded():
            self.kill_s = self.chance.uniform(0.05, 1.0)
            return
        # Early calls as often as late ones, of which there are many more.
        left, whose = int(LAST_CALL ** self.chance.random()), preload.ANY
        if act == "one" or self.chance.random() < 0.2:
            left, whose = 1 + left // 15, preload.WORKERS
        acts = {"one": preload.KILL_ONE, "stop": preload.STOP_ALL}
        torn = self.chance.random() < 0.5
        self.shop.plan.arm(left, acts.get(act, preload.KILL_ALL), whose, torn)

    def _disarm(self) -> None:
        self.shop.plan.arm(0)
        self.kill_s: float = TIMEOUT_S

    def _any_command(self, kind: str, act: str) -> None:
        self._arm(act)
        if kind in ("takedown", "purge"):
            # Beside changes, a path may have other bytes by the time that it is looked at.
            self._take_down(kind == "purge", by_path=act != "stop" and self.chance.random() < 0.7)
        elif kind == "lift" and self.blocked:
            sha256 = self.chance.choice(sorted(self.blocked))
            self.blocked.remove(sha256)
            self.unsure.add(sha256)
            self._command("takedown", "lift", sha256)
        elif kind == "verify":
            self._command("verify", "--fix", *self.chance.choice(((), ("--deep",))))
        else:
            if kind == "retry":
                self._command("retry", *self.chance.choice(((), ("--older",))))
            self._command("run")

    def _take_down(self, purge: bool, by_path: bool) -> None:
        files = self.shop.contents(self.shop.input)
        path, sha256 = self.chance.choice(sorted(files.items()))
        if sum(other != sha256 for other in files.values()) < 4:
            return
        self.unsure.add(sha256)
        self.purged |= {sha256} if purge else set()
        target = path if by_path else sha256
        options = ("--purge", "--reason", "a test") if purge else ("--reason", "a test")
        if self._command("takedown", "add", target, *options).code == 0:
            self.blocked.add(sha256)
            if by_path and path in self.shop.contents(self.shop.input):
                self.faults.append(f"takedown: {path!a} is still in the input folder")

    def _command(self, *arguments: str) -> Ended:
        """A command, with what is armed; what it did to originals is looked at."""
        kept, plan = self._kept(), self.shop.plan
        told: list[str] = []

        def stopped() -> None:
            nonlocal kept
            self._compare_originals(kept)
            told.append(f"stopped at {plan.call}")
            told.extend(self.changes.make(self.chance.randrange(1, 4), EVERYDAY))
            kept = self._kept()
            plan.arm(0)
            if self.chance.random() < 0.5:
                self._arm("kill")

        ended = self.shop.command(*arguments, stopped=stopped, kill_s=self.kill_s)
        told += [f"killed at {plan.call}"] if plan.call else []
        self.kills += bool(plan.call) or ended.code == KILLED
        self._disarm()
        line = " / ".join([f"* {' '.join(arguments)!a}", *told, f"exit {ended.code}"])
        self.story.append(line.replace(f"{self.shop.root}/", ""))
        self._compare_originals(kept)
        self._judge(arguments, ended, disturbed=bool(told))
        if ended.code >= 0 and arguments[0] in ("run", "takedown"):
            # It has finished what was interrupted before: now the tables say how that ended.
            rows = oracle.query(self.shop.root, "SELECT * FROM takedowns WHERE state <> 'lifted'")
            self.blocked |= self.unsure & {row["sha256"] for row in rows}
            self.unsure.clear()
        return ended

    def _judge(self, arguments: tuple[str, ...], ended: Ended, disturbed: bool) -> None:
        codes = {0, KILLED}
        failing = any(p.read_bytes().startswith(NO_PICTURE) for p in self.shop.originals())
        is_fix = arguments[:2] == ("verify", "--fix")
        if is_fix or (arguments[0] == "run" and (failing or disturbed)):
            codes.add(1)
        if ended.code == CRASHED or "Traceback" in ended.err or ended.code not in codes:
            last = (ended.err.strip().splitlines() or [""])[-1]
            kind = "crash" if "Traceback" in ended.err else f"exit {ended.code}"
            self.faults.append(f"{kind}: {arguments[0]}: {last}")
            self.story.append(ended.err)

    def _kept(self) -> tuple[dict[str, str], Counter[str]]:
        """The files of `input/`, and how often each content is there or in the quarantine."""
        files = self.shop.contents(self.shop.input)
        kept = self.shop.contents(self.shop.quarantine).items()
        # The quarantine may hold more than pictures: notes of its own.
        pictures = [sha256 for path, sha256 in kept if path.endswith(tuple(SUFFIXES))]
        return files, Counter([*files.values(), *pictures])

    def _compare_originals(self, before: tuple[dict[str, str], Counter[str]]) -> None:
        """Nothing in the input folder may be lost, altered or doubled by a command."""
        files, counts = self._kept()
        for path, sha256 in before[0].items():
            if files.get(path) != sha256 and sha256 not in self.blocked | self.unsure:
                self.faults.append(f"original: {path!a} was altered or moved")
        for sha256 in (before[1] - counts).keys() - self.purged:
            self.faults.append(f"original: one of {sha256[:8]} is lost")
        for sha256 in (counts - before[1]).keys() & set(before[1]):
            self.faults.append(f"original: one of {sha256[:8]} is doubled")

    def _expect_nothing_to_do(self) -> None:
        before = self._stamps()
        status, run = self._command("status", "--json"), self._command("run", "--json")
        features = status.json["features"].values() if status.code == 0 else ()
        if status.code == 0 and (status.json["pending"] or any(f["pending"] for f in features)):
            self.faults.append(f"status: {status.json} are pending")
        told = (
            [*run.json["renditions"].items(), *run.json["features"].items()]
            if run.code == 0
            else []
        )
        done = {k: n for k, n in told if n and k not in ("in_step", "failed_before")}
        if run.code != 0 or done or self._stamps() != before:
            self.faults.append(f"second run: exit {run.code}, {done or 'files changed'}")
        self._command("verify", "--deep")

    def _stamps(self) -> dict[Path, tuple[int, int]]:
        files = (path for path in self.shop.output.rglob("*") if path.is_file())
        return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}
