"""Names of topics, and of what becomes a part of one: applications and tables. Pure.

The rule is Kafka's, so that a program does not depend on its broker.
"""

from __future__ import annotations

import re
from typing import Final

_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")
#: What ``is_topic_name`` asks for, in a sentence for people.
NAME_HINT: Final = "Use 1 to 249 of the characters a-z A-Z 0-9 . _ and -."


def is_topic_name(name: object) -> bool:
    """Tell whether a topic may have this name; ``.`` and ``..``, which are folders, may not."""
    return isinstance(name, str) and bool(_NAME.fullmatch(name)) and name not in {".", ".."}
