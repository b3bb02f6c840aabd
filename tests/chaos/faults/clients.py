"""Client processes that die or sleep."""

from __future__ import annotations

import signal

from ..workers import Worker
from .scene import Fault, Scene


class KillMembers(Fault):
    """Processes of group members die, and others take their places."""

    weight = 3

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self.killed: list[Worker] = []

    async def begin(self) -> None:
        count = self.scene.chance.randint(1, max(len(self.scene.members), 1))
        for worker in self.scene.chance.sample(self.scene.members, min(count, len(self.scene.members))):
            worker.kill(self.scene.history)
            self.on += worker.processes
            self.killed.append(worker)

    async def end(self) -> None:
        for worker in self.killed:
            worker.start()


class PauseMembers(Fault):
    """SIGSTOP, for longer than their sessions or not."""

    async def begin(self) -> None:
        members = [worker for worker in self.scene.members if worker.is_running]
        self.paused = self.scene.chance.sample(members, min(1, len(members)))
        for worker in self.paused:
            assert worker.process is not None
            self.on += worker.processes
            worker.process.send_signal(signal.SIGSTOP)

    async def end(self) -> None:
        for worker in self.paused:
            if worker.is_running:
                assert worker.process is not None
                worker.process.send_signal(signal.SIGCONT)
