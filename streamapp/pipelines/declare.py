"""The part of an application that declares pipelines, and the topics and tables that they need."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamapp.core.names import NAME_HINT, is_topic_name
from streamapp.errors import ConfigError
from streamapp.operators.results import WindowRow
from streamapp.state.operator_table import OperatorTable, View
from streamapp.state.result_table import ResultTable
from streamapp.state.rows import row_codec
from streamapp.state.table import TableSpec

if TYPE_CHECKING:
    from streamapp.engine.topic import Topic
    from streamapp.pipelines.pipeline import Pipeline
    from streamapp.state.table import Table


class DeclaresPipelines:
    """Stands before Faust's ``App``; ``conf`` and ``topic`` are the application's."""

    conf: Any
    tables: dict[str, Table]

    @cached_property
    def pipelines(self) -> dict[str, Pipeline]:
        """The pipelines by name."""
        return {}

    def pipeline(self, name: str, *, on_error: Any = None) -> Pipeline:
        """Declare a pipeline; go on with ``.source(topic)``.

        Args:
            name: Its name, unique in the application; part of the names of its topics and tables.
            on_error: What becomes of a record that a step cannot use: an ``ErrorPolicy`` or one of
                "retry", "dead_letter", "skip", "stop", as for agents.

        Raises:
            ConfigError: The name is taken or cannot be one.
        """
        if name in self.pipelines:
            msg = f"There are two pipelines named {name!r}"
            raise ConfigError(msg, hint="Rename one of them")
        from streamapp.pipelines.pipeline import Pipeline  # noqa: PLC0415 - brings numpy

        made = self.pipelines[name] = Pipeline(self, name, on_error)  # type: ignore[arg-type] # the App
        return made

    @cached_property
    def pipeline_files(self) -> dict[str, Path]:
        """The files of those pipelines that were loaded from one, by their names."""
        return {}

    def load_pipelines(self, path: Path | str = "config/pipelines") -> list[Pipeline]:
        """Declare the pipelines in the YAML files of a folder, by name, or in one file.

        Files may name modules, which are imported: they are as trusted as the program.

        Raises:
            ConfigError: There is no such folder, or a file holds a mistake; names file and line.
        """
        from streamapp.pipelines.yaml_load import load_file, yaml_files  # noqa: PLC0415 - as above

        made: list[Pipeline] = []
        for file in yaml_files(Path(path)):
            loaded = load_file(self, file)  # type: ignore[arg-type] # the App
            self.pipeline_files.update((pipeline.name, file) for pipeline in loaded)
            made += loaded
        return made

    # --- what pipelines ask for ------------------------------------------------------------------

    def operator_table(
        self, name: str, view: View, help_: str, *, holds_windows: bool = False
    ) -> OperatorTable:
        """Declare the table that shows the state of an operator."""
        spec = TableSpec(self._free(name), help=help_)
        table = OperatorTable(spec, view, holds_windows=holds_windows)
        self.tables[name] = table
        return table

    def result_table(
        self, name: str, value_type: Any, keep_ms: int | None, help_: str
    ) -> ResultTable:
        """Declare a table that a pipeline writes its results to."""
        codec = row_codec(value_type, is_timed=True)  # bytes only: nothing is shared
        spec = TableSpec(self._free(name), value_type=value_type, ttl_ms=keep_ms, help=help_)
        table = ResultTable(spec, codec)
        table.holds_windows = isinstance(value_type, type) and issubclass(value_type, WindowRow)
        self.tables[name] = table
        return table

    def regroup_topic(
        self, pipeline: str, label: str, value_type: Any, partitions: int | None
    ) -> Topic:
        """Declare the topic through which a ``group_by`` sends its records."""
        topic: Topic = self.topic(  # type: ignore[attr-defined] # the application's
            f"{self.conf.id}-{pipeline}-{label}-repartition",
            value_type=value_type,
            value_serializer="json",
            partitions=partitions,
            internal=True,
            allow_empty=True,
            max_future=None,
        )
        return topic

    def _free(self, name: str) -> str:
        if name in self.tables:
            msg = f"There are two tables named {name!r}"
            raise ConfigError(msg, hint="Rename one of them")
        if not is_topic_name(name):
            msg = f"{name!r} is no name for a table"
            raise ConfigError(msg, hint=NAME_HINT)
        return name
