"""One process."""

from collections.abc import Mapping, Sequence

from conformance.processes.pool import NOTHING, Pool


class LocalWorld(Pool):
    """One process, which keeps what it has imported and compiled from task to task."""

    def __init__(
        self,
        preload: Sequence[str] = (),
        prepare: str | None = None,
        environment: Mapping[str, str] = NOTHING,
    ) -> None:
        """Start nothing yet.

        Args:
            preload: modules that the process finds imported.
            prepare: "package.module:name" of a function to call in each new process, or None.
            environment: environment variables to set in it.
        """
        super().__init__(1, preload, prepare, environment)
