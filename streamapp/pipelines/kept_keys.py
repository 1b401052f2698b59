"""Which keys a step may keep: those that come back out of its state as what they were. Pure.

A UUID comes back as text and a record as a ``dict``, so that what a step kept of a key would not be
found again. Declared types are checked before there is a record, keys of a topic that declares none
record by record (``first_lost``); ``operators.keys`` checks those that ``key_by`` gives.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Final, get_args, get_origin

from streamapp.errors import ConfigError
from streamapp.operators.fused import KeyBy
from streamapp.pipelines.nodes import Node, Regroup, Source, Stateful, Stateless
from streamapp.serde.hooks import type_name
from streamapp.serde.ordered_keys import PLAIN_KEYS

#: Types of keys, and of parts of keys, that come back as they were.
_KEPT: Final = PLAIN_KEYS | {float, bool}
#: Those, what is made of such types, and what tells nothing.
_GOOD: Final = _KEPT | {NoneType, tuple, UnionType, Annotated, Any}


def check_kept_keys(pipeline: str, nodes: Sequence[Node]) -> None:
    """Check the keys that come to steps as their topics declare them.

    Raises:
        ConfigError: A step would keep keys that it does not find again.
    """
    for node in nodes:
        if isinstance(node, Stateful) and node.keeps_keys:
            for source in _sources(node):
                key_type = source.topic.key_type
                if not _comes_back(key_type):
                    msg = (
                        f"Pipeline {pipeline}: {node.name} cannot keep the keys of "
                        f"{source.topic}, which are {type_name(key_type)}"
                    )
                    hint = "Declare key_type=str, or .group_by(...) a str, an int or a tuple"
                    raise ConfigError(msg, hint=hint)


def first_lost(keys: Sequence[Hashable]) -> int | None:
    """Return the place of the first key that would come back as something else, if there is one."""
    if _KEPT.issuperset(map(type, keys)):
        return None
    for place, key in enumerate(keys):
        if not _KEPT.issuperset(map(type, key if type(key) is tuple else (key,))):
            return place
    return None


def _sources(node: Node) -> Iterator[Source]:
    """Iterate over the sources whose keys come to a step as they are."""
    for before in node.parents:
        if isinstance(before, Source):
            yield before
        elif not isinstance(before, Regroup) and not _gives_keys(before):
            yield from _sources(before)


def _gives_keys(node: Node) -> bool:
    return isinstance(node, Stateless) and isinstance(node.step, KeyBy)


def _comes_back(key_type: Any) -> bool:
    """Tell whether keys of a type come back as they were, as far as the type tells."""
    parts = [part for part in get_args(key_type) if part is not Ellipsis]
    kind = get_origin(key_type) or key_type
    return all(map(_comes_back, parts)) and (not isinstance(kind, type) or kind in _GOOD)
