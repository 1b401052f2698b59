"""Mistakes in YAML pipelines: each is told with file, line, place, and what to write."""
# ruff: noqa: E501 - a mistake and what is said of it stand in one line

from __future__ import annotations

from pathlib import Path

import pytest
from support.engine_app import Bench
from support.yaml_shop import Sale

import streamapp
from streamapp.errors import ConfigError

#: A document without a mistake; each case puts something else in the place of a part of it.
GOOD = """\
pipeline: p
on_error: skip
source:
  topic: sales
  value: support.yaml_shop:Sale
  event_time: ts
  out_of_order: 5s
steps:
  - filter: amount > 0
  - group_by: user
  - window: {tumbling: 1m, late: 2m}
    emit: update
    aggregate:
      n: count
      total: {sum: amount}
  - to: {table: out}
"""

CASES: dict[str, tuple[str, str, str]] = {
    "a word": ("filter: am", "filtr: am", "9: steps[0].filtr: filtr is not known here. Did you mean filter?"),
    "an option": ("    emit:", "    emitt:", "12: steps[2].emitt: emitt is not known here. Did you mean emit?"),
    "a part": ("steps:", "stepps:", "8: stepps: stepps is not known here. Did you mean steps?"),
    "a field": ("amount > 0", "amoun > 0", "9: steps[0].filter: 'amoun > 0', column 1: Sale has no field amoun. Did you mean amount?"),
    "a key": ("group_by: user", "group_by: usr", "10: steps[1].group_by: 'usr', column 1: Sale has no field usr. Did you mean user?"),
    "an aggregate": ("n: count", "n: cuont", "14: steps[2].aggregate.n: 'cuont' says nothing that is known here. Write one of count,"),
    "a field of one": ("sum: amount", "sum: ammt", "15: steps[2].aggregate.total.sum: 'ammt', column 1: Sale has no field ammt. Did you mean amount?"),
    "a window": ("tumbling: 1m", "tumble: 1m", "11: steps[2].window.tumble: tumble is not known here. Did you mean tumbling?"),
    "a duration": ("tumbling: 1m", "tumbling: 1 parsec", "11: steps[2].window.tumbling: '1 parsec' is not a duration."),
    "a window of nothing": ("tumbling: 1m", "tumbling: 0s", "11: steps[2].window: tumbling: size='0s' is zero"),
    "windows without end": ("tumbling: 1m", "hopping: 1d, slide: 1ms", "11: steps[2].window: hopping: each record would lie in 86400000 windows. Choose a slide of at least size / 10000"),
    "a choice": ("emit: update", "emit: sometimes", "12: steps[2].emit: should be 'close' or 'update', not 'sometimes'"),
    "a policy": ("on_error: skip", "on_error: panic", "2: on_error: should be 'retry', 'dead_letter', 'skip' or 'stop', not 'panic'"),
    "a module": ("support.yaml_shop:Sale", "support.yamlshop:Sale", "3: source: support.yamlshop:Sale: there is no module support.yamlshop"),
    "a type": ("support.yaml_shop:Sale", "support.yaml_shop:Sail", "3: source: support.yaml_shop:Sail: there is no Sail. Did you mean Sale?"),
    "no type": ("support.yaml_shop:Sale", "Sale", "3: source: 'Sale' is no type. Write module:Name, or one of any,"),
    "a function": ("filter: amount > 0", "filter: support.yaml_shop:SEEN", "9: steps[0].filter: support.yaml_shop:SEEN is no function"),
    "a time": ("event_time: ts", "event_time: tss", "3: source: 'tss', column 1: Sale has no field tss. Did you mean ts?"),
    "a name twice": ("    emit: update", "    emit: update\n    emit: close", "13: emit is there twice. The first one is in line 12: keep one"),
    "no YAML": ("{sum: amount}", "{sum: amount", "16: this is no YAML:"),
    "a tag": ("user", "!!python/name:os.system x", "10: python/name:os.system is not known"),
    "no end": ("  - to: {table: out}", "", "1: Pipeline p writes nothing"),
    "nothing in the end": ("to: {table: out}", "to: {}", "16: steps[3].to: Pipeline p: .to() without a target"),
    "a table": ("group_by: user", "join_table: users", "10: steps[1].join_table: there is no table users."),
    "a flow": ("group_by: user", "merge: [others]", "10: steps[1].merge: there is no flow others. Known: source"),
    "a missing part": ("    aggregate:\n      n: count\n      total: {sum: amount}\n", "", "11: steps[2]: aggregate is missing"),
    "a missing source": ("pipeline: p", "pipeline: p\nsources: {a: sales}", "1: p has no source, or both forms of it"),
    "a name of a pipeline": ("pipeline: p", "pipeline: p p", "1: pipeline: 'p p' is no name for a pipeline"),
    "a name of an aggregate": ("n: count", "end: count", "11: steps[2].window: Pipeline p: an aggregate cannot be called 'end'"),
    "a step that is none": ("filter: amount > 0", "amount > 0", "9: steps[0]: 'amount > 0' says nothing that is known here"),
    "an option of a topic": ("out_of_order: 5s", "out_of_ordr: 5s", "7: source.out_of_ordr: out_of_ordr is not known here. Did you mean out_of_order?"),
    "a step behind a branch": ("filter: amount > 0", "branch: {a: amount > 0}", "10: steps[1]: nothing can follow a branch"),
    "a wrong kind": ("group_by: user", "rate_limit: ten", "10: steps[1].rate_limit: should be a valid integer, not 'ten'"),
    "a wait": ("group_by: user", "dedup: id\n    within: 1s\n  - rate_limit: 5\n    excess: delay", "1: Pipeline p: rate-limit cannot wait behind dedup"),
    "a text for a sink": ("to: {table: out}", "to: {sink: print}", "16: steps[3].to: print is no module:name. Write module:print"),
    "a name of a topic": ("to: {table: out}", "to: {topic: a b}", "16: steps[3].to: 'a b' is no name for a topic"),
    "a name of a source": ("topic: sales", "topic: my sales", "3: source: 'my sales' is no name for a topic"),
    "a name of late records": ("emit: update", "on_late: so late", "11: steps[2].window: 'so late' is no name for a topic"),
    "a name of a group": ("group_by: user", "group_by: user\n    name: ''", "10: steps[1].group_by: '' is no name for a topic"),
    "two steps in one": ("  - group_by: user", "    group_by: user", "10: steps[0].group_by: group_by stands beside filter"),
    "two aggregates in one": ("{sum: amount}", "{sum: amount, min: amount}", "15: steps[2].aggregate.total.min: min stands beside sum"),
    "a state": ("filter: amount > 0", "dedup: id\n    within: 1s\n  - join_table: p-dedup", "11: steps[1].join_table: Pipeline p: join_table with p-dedup, which only shows the state"),
    "a character": ("amount > 0", "amount > \x07", "9: this is no YAML: the character '\\x07'"),
    "no number": ("5s", "1e999", "7: '1e999' is no float"),
    "a huge number": ("5s", "9" * 5_000, "7: '9999"),
    "a late row": ("group_by: user", "buffer: 10\n    rate: 5", "1: Pipeline p: windows comes behind buffer"),
}  # fmt: skip


def said(tmp_path: Path, text: str) -> str:
    file = tmp_path / "p.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        Bench().app().load_pipelines(file)
    return str(caught.value).replace(f"{file}:", "")


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, case: str) -> None:
    part, instead, told = CASES[case]
    assert part in GOOD
    assert said(tmp_path, GOOD.replace(part, instead, 1)).startswith(told)


def test_a_document_without_a_mistake_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(
        GOOD + "---\n" + GOOD.replace(" p\n", " q\n").replace("out}", "q}")
    )
    (tmp_path / "a.yml").write_text(GOOD.replace(" p\n", " r\n").replace("out}", "r}"))
    (tmp_path / "notes.txt").write_text("not this one")
    app = Bench().app()
    assert [pipeline.name for pipeline in app.load_pipelines(tmp_path)] == ["r", "p", "q"]
    assert {name: path.name for name, path in app.pipeline_files.items()} == {
        "r": "a.yml",
        "p": "b.yaml",
        "q": "b.yaml",
    }


@pytest.mark.parametrize("value", ["support.yaml_shop:Sale", "dict"])
@pytest.mark.parametrize("key", ["'true'", "[user, 'true']", "1 if true else 2"])
def test_constants_may_be_keys(tmp_path: Path, key: str, value: str) -> None:
    text = GOOD.replace("group_by: user", f"group_by: {key}")
    (tmp_path / "p.yaml").write_text(text.replace("support.yaml_shop:Sale", value))
    (pipeline,) = Bench().app().load_pipelines(tmp_path)
    (key_of,) = (node.step.key for node in pipeline if node.name == "keyby")
    assert callable(key_of)


@pytest.mark.parametrize(
    "number", ["123456789012345678901234", "-" + "9" * 30, "18446744073709551616"]
)
def test_large_integers_are_kept_as_they_are(tmp_path: Path, number: str) -> None:
    (tmp_path / "p.yaml").write_text(
        GOOD.replace("filter: amount > 0", f"map: {{user: user, x: {number}}}").replace(
            "sum: amount", "sum: x"
        )
    )
    (pipeline,) = Bench().app().load_pipelines(tmp_path)
    (made,) = (node.step.function for node in pipeline if node.name == "map")
    assert str(made(Sale("ann", "pen", 1, 1))["x"]) == number


def test_what_merges_bring_and_options_may_stand_before_the_word(tmp_path: Path) -> None:
    text = GOOD.replace(
        "  - window: {tumbling: 1m, late: 2m}\n    emit: update\n    aggregate:\n",
        "  - &often\n    emit: update\n    aggregate: &all {n: count}\n    window: {late: 2m, tumbling: 1m}\n"
        "  - to: {table: minutes}\n"
        "  - <<: *often\n    window: {tumbling: 1h}\n    aggregate:\n      <<: *all\n",
    ).replace("{sum: amount}", "{by: n, top_k: kind, k: 1}")
    (tmp_path / "p.yaml").write_text(text.replace("  - filter: amount > 0\n", ""))
    (pipeline,) = Bench().app().load_pipelines(tmp_path)
    names = [node.name for node in pipeline]
    assert [name for name in names if "window" in name] == ["windows", "windows-2"]


def test_a_branch_and_an_aggregate_may_be_called_self(tmp_path: Path) -> None:
    text = GOOD.replace("n: count", "self: count").replace(
        "  - to: {table: out}",
        "  - branch: {self: self > 1}\nflows:\n  f: {from: self, steps: [{to: {table: out}}]}",
    )
    (tmp_path / "p.yaml").write_text(text)
    (pipeline,) = Bench().app().load_pipelines(tmp_path)
    assert pipeline.stages()


def test_an_error_policy_may_be_a_word_or_say_more(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        GOOD.replace("on_error: skip", "on_error: {retries: 5, backoff: 1s, then: stop}")
    )
    (pipeline,) = Bench().app().load_pipelines(tmp_path)
    assert pipeline.on_error == streamapp.ErrorPolicy(5, 1_000, "stop")


def test_all_mistakes_of_a_part_are_told_at_once(tmp_path: Path) -> None:
    told = said(
        tmp_path, GOOD.replace("on_error: skip", "on_error: skip\nn: 1").replace("steps:", "stops:")
    )
    assert [line.partition(":")[0] for line in told.splitlines()] == ["3", "9"]


def test_what_holds_no_pipeline_is_told(tmp_path: Path) -> None:
    assert "holds no pipeline" in said(tmp_path, "# nothing yet\n")
    assert "1: " in said(tmp_path, "- a list\n")
    for path in (tmp_path / "none", tmp_path / "none.yaml"):
        with pytest.raises(ConfigError, match="no folder"):
            Bench().app().load_pipelines(path)


#: A million ones.
ALIASES = "\n".join(
    f"{name}: &{name} [{', '.join([below] * 10)}]"
    for name, below in (("a", "1"), ("b", "*a"), ("c", "*b"), ("d", "*c"), ("e", "*d"), ("f", "*e"))
)


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [*a]",
        "a: &a {<<: *a}",
        ALIASES,
        "[" * 2_000,
        "{a: " * 5_000,
        "? [1]\n: 2",
        "a: !!python/object/apply:os.system ['true']",
        "a: \x00",
    ],
    ids=["itself", "merge", "aliases", "lists", "mappings", "key", "object", "bytes"],
)
def test_a_text_that_could_do_harm_is_refused(tmp_path: Path, text: str) -> None:
    assert said(tmp_path, text)
