from collections.abc import Sequence

from streamapp.core.columned import PlainColumn

class PlainJson:
    def __init__(self, fields: Sequence[tuple[bytes, int, int]], max_bytes: int) -> None: ...
    def read(
        self, values: list[bytes | None], wanted: int
    ) -> tuple[list[PlainColumn | None], list[int]]: ...
