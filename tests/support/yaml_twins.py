"""Pipelines in YAML, each with the same one in Python beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from support.yaml_shop import (
    Line,
    Payment,
    Sale,
    cents,
    halves,
    is_large,
    left_over,
    longest,
    see,
)

import streamapp

#: The head of a document that reads sales.
SALES = """
pipeline: p
source:
  topic: sales
  key: str
  value: support.yaml_shop:Sale
  event_time: ts
  out_of_order: 2s
steps:
"""
#: The head of one that reads payments too.
BOTH = """
pipeline: p
sources:
  sales: &how
    topic: sales
    key: str
    value: support.yaml_shop:Sale
    event_time: ts
    out_of_order: 2s
  payments: {<<: *how, topic: payments, value: support.yaml_shop:Payment}
flows:
"""
Make = Callable[[streamapp.App, Any], object]
_how = {"key_type": str, "event_time": "ts", "out_of_order": "2s"}


def sales(app: streamapp.App) -> Any:
    return app.pipeline("p").source(app.topic("sales", value_type=Sale, **_how))


def both(app: streamapp.App) -> Any:
    pipeline = app.pipeline("p")
    return [
        pipeline.source(app.topic(name, value_type=of, **_how))
        for name, of in (("sales", Sale), ("payments", Payment))
    ]


def _branched(_: Any, flow: Any) -> None:
    flows = flow.branch(
        big=lambda v: v.amount > 2, small=lambda v: v.amount == 1, rest=lambda _: True
    )
    big = flows["big"].map(lambda v: {"user": v.user, "size": "big"}, into=dict)
    big.merge(flows["rest"].map(lambda v: {"user": v.user, "size": v.kind}, into=dict)).to(
        topic="out"
    )
    flows["small"].to(topic="small")


ONE: dict[str, tuple[str, Make]] = {
    "filter, group, tumble": (
        """
  - filter: amount > 0 and kind != "b"
  - group_by: user
  - window: {tumbling: 10s, late: 5s}
    aggregate: {n: count, total: {sum: amount}, notes: {count: note}}
  - to: {table: out}
""",
        lambda _, flow: (
            flow.filter(lambda v: v.amount > 0 and v.kind != "b")
            .group_by("user")
            .window(streamapp.tumbling("10s", late="5s"))
            .aggregate(
                n=streamapp.count(), total=streamapp.sum("amount"), notes=streamapp.count("note")
            )
            .to(table="out")
        ),
    ),
    "functions of the program": (
        """
  - filter: support.yaml_shop:is_large
  - peek: support.yaml_shop:see
  - flat_map: support.yaml_shop:halves
    into: support.yaml_shop:Line
  - group_by: user
  - window: {tumbling: 10s}
    aggregate: {total: {sum: cents}}
  - to: {table: out, sink: support.yaml_shop:see}
""",
        lambda _, flow: (
            flow.filter(is_large)
            .peek(see)
            .flat_map(halves, into=Line)
            .group_by("user")
            .window(streamapp.tumbling("10s"))
            .aggregate(total=streamapp.sum("cents"))
            .to(table="out", sink=see)
        ),
    ),
    "fields made of expressions": (
        """
  - map: {user: user, size: '"big" if amount > 2 else "small"', half: amount / 2, version: 3}
  - group_by: [user, size]
  - window: {session: 3s, late: 2s}
    emit: update
    aggregate: {n: count, most: {max: half * 2}}
  - to: {table: out, topic: rows, keep: 1d}
""",
        lambda _, flow: (
            flow.map(
                lambda v: {
                    "user": v.user,
                    "size": "big" if v.amount > 2 else "small",
                    "half": v.amount / 2,
                    "version": 3,
                },
                into=dict,
            )
            .group_by(lambda v: (v["user"], v["size"]))
            .window(streamapp.session("3s", late="2s"))
            .emit("update")
            .aggregate(n=streamapp.count(), most=streamapp.max(lambda v: v["half"] * 2))
            .to(table="out", topic="rows", keep="1d")
        ),
    ),
    "hopping, emitted in between, late ones elsewhere": (
        """
  - group_by: upper(kind)
    name: kind
    partitions: 2
  - window: {hopping: 6s, slide: 4s, offset: 1s, late: 1s}
    every: 2s
    on_late: late
    aggregate:
      sd: {stddev: amount}
      p50: {quantile: amount, q: 0.5}
      users: {distinct_count: user}
  - to: {table: out}
""",
        lambda _, flow: (
            flow.group_by(lambda v: v.kind.upper(), name="kind", partitions=2)
            .window(streamapp.hopping("6s", "4s", offset="1s", late="1s"), on_late="late")
            .emit(every="2s")
            .aggregate(
                sd=streamapp.stddev("amount"),
                p50=streamapp.quantile("amount", 0.5),
                users=streamapp.distinct_count("user"),
            )
            .to(table="out")
        ),
    ),
    "sliding, correct": (
        """
  - key_by: kind
  - window: {sliding: 4s}
    on_late: correct
    aggregate:
      first: {first: amount}
      all: {collect: user, limit: 3}
      l: support.yaml_shop:longest
  - to: {topic: out}
""",
        lambda _, flow: (
            flow.key_by("kind")
            .window(streamapp.sliding("4s"), on_late="correct")
            .aggregate(first=streamapp.first("amount"), all=streamapp.collect("user", 3), l=longest)
            .to(topic="out")
        ),
    ),
    "windows by number": (
        """
  - window: {count_window: 3}
    aggregate: {best: {top_k: kind, k: 2, by: amount}, mean: {avg: amount}}
  - to: {topic: out}
""",
        lambda _, flow: (
            flow.window(streamapp.count_window(3))
            .aggregate(best=streamapp.top_k("kind", 2, by="amount"), mean=streamapp.avg("amount"))
            .to(topic="out")
        ),
    ),
    "a window for all time, of distinct records": (
        """
  - dedup: id
    within: 20s
  - window:
      global_window: {count: 2, every: 5s}
    aggregate: {n: count}
  - to: {table: out}
""",
        lambda _, flow: (
            flow.dedup("id", within="20s")
            .window(streamapp.global_window(count=2, every="5s"))
            .aggregate(n=streamapp.count())
            .to(table="out")
        ),
    ),
    "a buffer and a limit": (
        """
  - map: support.yaml_shop:cents
  - buffer: 5
    rate: 1
    per: 1d
    burst: 3
    size: 1MiB
    when_full: drop_oldest
  - to: {topic: out}
""",
        lambda _, flow: (
            flow.map(cents)
            .buffer(5, rate=1, per="1d", burst=3, size="1MiB", when_full="drop_oldest")
            .to(topic="out")
        ),
    ),
    "a rate for each key": (
        """
  - rate_limit: 2
    per: 1d
    by_key: true
  - to: {topic: out}
""",
        lambda _, flow: flow.rate_limit(2, per="1d", by_key=True).to(topic="out"),
    ),
    "branches": (
        """
  - branch: {big: amount > 2, small: amount == 1, rest: "true"}
flows:
  others:
    from: rest
    steps:
      - map: {user: user, size: kind}
  large:
    from: big
    steps:
      - map: {user: user, size: '"big"'}
      - merge: others
      - to: {topic: out}
  little:
    from: small
    steps:
      - to: {topic: small}
""",
        _branched,
    ),
}
TWO: dict[str, tuple[str, Make]] = {
    "join": (
        """
  paid:
    from: sales
    steps:
      - join: payments
        before: 2s
        after: 2s
        kind: outer
        combine: {user: 'coalesce(left.user, right.user)', paid: right.paid if right else null}
      - to: {topic: out}
""",
        lambda _, flows: (
            flows[0]
            .join(
                flows[1],
                before="2s",
                after="2s",
                kind="outer",
                combine=lambda left, right: {
                    "user": left.user if left else right.user,
                    "paid": right.paid if right else None,
                },
            )
            .to(topic="out")
        ),
    ),
    "as of": (
        """
  paid:
    from: sales
    steps:
      - join_as_of: payments
        within: 5s
        kind: left
        combine: support.yaml_shop:left_over
      - to: {topic: out}
""",
        lambda _, flows: (
            flows[0]
            .join_as_of(flows[1], within="5s", kind="left", combine=left_over)
            .to(topic="out")
        ),
    ),
    "a pair": (
        """
  paid:
    from: sales
    steps:
      - join: payments
        after: 3s
      - filter: left.amount > right.paid
      - to: {topic: out}
""",
        lambda _, flows: (
            flows[0]
            .join(flows[1], after="3s")
            .filter(lambda pair: pair.left.amount > pair.right.paid)
            .to(topic="out")
        ),
    ),
}
