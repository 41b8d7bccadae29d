"""What the tests of faults share: a client that never stops asking, and what training survived."""
import collections
import random
import threading
import time

from aurora_server import failed


def surviving_steps(audit):
    """step -> its (record, pass) pairs. A start says which step its checkpoint holds: later ones before it are lost."""
    steps = collections.defaultdict(list)
    for line in audit.read_text().splitlines():
        parts = line.split()
        if parts[:1] == ["resumed"]:
            steps = collections.defaultdict(list, {step: pairs for step, pairs in steps.items() if step <= int(parts[1])})
        elif len(parts) == 3:
            steps[int(parts[0])].append((int(parts[1]), int(parts[2])))
    return steps


def steps_taken(audit):
    """Lines of training steps so far; those of starts do not count."""
    return sum(line.count(" ") == 2 for line in audit.read_text().splitlines()) if audit.exists() else 0


class Load(threading.Thread):
    """One client that asks all the time; counts what failed while the server was up."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server = server
        self.answered = 0
        self.failed_up = []
        self.up = True
        self.going = True

    def run(self):
        rng = random.Random(1)
        while self.going:
            if not self.up:
                time.sleep(0.05)
                continue
            subject = rng.choice(["rivers", "tea", "maps", "chess", "bridges", "clocks"])
            answers = self.server.chat_all([f"Name {rng.randint(2, 9)} facts about {subject}."], 1, max_tokens=40)
            if failed(answers) and self.up:
                self.failed_up += failed(answers)
            self.answered += len(answers) - len(failed(answers))
