from array import array
from collections.abc import Sequence

class PlainJson:
    def __init__(self, fields: Sequence[tuple[bytes, int]], max_bytes: int) -> None: ...
    def read(
        self, values: list[bytes | None], wanted: int
    ) -> tuple[list[array[int] | array[float] | list[object] | None], list[int]]: ...
