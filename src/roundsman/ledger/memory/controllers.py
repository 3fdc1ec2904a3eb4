"""The register of controllers, and which of them leads."""

import msgspec

from roundsman.ledger.interface import Leadership, NotLeadingError, RegisteredController
from roundsman.ledger.memory.tables import Tables


class Controllers(Tables):
    """Controllers come and go, and one leads."""

    async def note_controller(self, controller: RegisteredController) -> None:
        self._must_be_open()
        self._controllers[controller.controller_id] = controller

    async def controllers(self) -> list[RegisteredController]:
        self._must_be_open()
        return sorted(
            self._controllers.values(), key=lambda each: (each.started_at, each.controller_id)
        )

    async def remove_controller(self, controller_id: str) -> None:
        self._must_be_open()
        self._controllers.pop(controller_id, None)
        if self._leadership.controller_id == controller_id:
            self._leadership = msgspec.structs.replace(self._leadership, until=0)

    async def lead(
        self, controller_id: str, *, term: int | None, now: float, until: float
    ) -> Leadership:
        self._must_be_open()
        before = self._leadership
        if (before.controller_id, before.term) == (controller_id, term):
            self._leadership = msgspec.structs.replace(before, until=max(before.until, until))
        elif before.until <= now:
            self._leadership = msgspec.structs.replace(
                before, term=before.term + 1, controller_id=controller_id, until=until
            )
        return self._leadership

    async def call_to_reload(self) -> int:
        self._must_be_open()
        self._leadership = msgspec.structs.replace(
            self._leadership, calls=self._leadership.calls + 1
        )
        return self._leadership.calls

    def _must_be_term(self, term: int | None) -> None:
        if term is not None and term != self._leadership.term:
            raise NotLeadingError(f"expected to lead in term {term}, and another controller does")
