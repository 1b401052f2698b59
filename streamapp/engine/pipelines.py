"""All pipelines of a worker: their topics, tables and feeds are declared, their stages run."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from streamapp.engine.declared import claim
from streamapp.engine.policy import policy_of
from streamapp.engine.stage_build import Builder, Surroundings
from streamapp.engine.stages import StageRunner
from streamapp.errors import ConfigError, PartitionMismatchError
from streamapp.pipelines.nodes import Regroup, Stateful, ToTable, ToTopic

if TYPE_CHECKING:
    from streamapp.app import App
    from streamapp.engine.engine import Engine
    from streamapp.pipelines.plan import StagePlan
    from streamapp.state.table import Table

#: What a row of an operator takes in memory, roughly: a window with some numbers.
_ROW_BYTES = 300
#: Rows that an operator keeps in any case.
_LEAST_ROWS = 1_000


class Pipelines:
    """The stages of all pipelines; see ``StageRunner``."""

    def __init__(self, engine: Engine) -> None:
        self.runners: list[StageRunner] = []
        self._engine = engine

    async def declare(self) -> None:
        """Make the topics and the feeds of all stages; tables get the partitions of their stage.

        Raises:
            ConfigError: A pipeline cannot run as it is declared.
            PartitionMismatchError: Topics that a stage reads together have not the same number.
        """
        claim_names(self._engine.app, self._engine.owners)
        for pipeline in self._engine.app.pipelines.values():
            regrouped: dict[str, int] = {}
            topics, policy = self._engine.topics, policy_of(pipeline.on_error)
            for plan in pipeline.stages():
                partitions = await self._partitions(plan)
                around = Surroundings(topics.counts, topics.choose, dict(regrouped), topics.check)
                await self._declare_targets(plan, partitions, regrouped)
                builder = Builder(plan, partitions, around)
                runner = StageRunner(self._engine, builder, policy)
                self.runners.append(runner)
                for table in _tables(plan):
                    table.spec = replace(table.spec, partitions=partitions)
                    table.now_ms = runner.watermark_ms

    def start(self) -> None:
        """Run all stages."""
        for runner in self.runners:
            self._engine.watch(asyncio.create_task(runner.run(), name=f"pipeline-{runner.name}"))

    def tick(self) -> None:
        """Bring all stages to where a commit may be made."""
        states = sum(runner.states for runner in self.runners)
        most = self._engine.app.options.cache_bytes // 2 // _ROW_BYTES
        for runner in self.runners:
            runner.tick(max(most // max(states, 1), _LEAST_ROWS))

    async def _partitions(self, plan: StagePlan) -> int:
        """Return how many partitions the inputs of a stage have: all the same."""
        counts: dict[str, int] = {}
        for of in plan.inputs:
            for name in of.topic.topics:
                counts[name] = await self._engine.topics.ensure(of.topic, name)
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{name} has {count}" for name, count in counts.items())
            msg = f"Pipeline {plan.name} reads topics with different partitions: {told}"
            raise PartitionMismatchError(msg, hint="Repartition one of them with .group_by(...)")
        return next(iter(counts.values()))

    async def _declare_targets(
        self, plan: StagePlan, partitions: int, regrouped: dict[str, int]
    ) -> None:
        for unit in plan.units:
            node = unit.node
            if isinstance(node, Stateful):
                self._check_table(plan, node.reads, partitions)
            if isinstance(node, Regroup):
                node.topic.partitions = node.topic.partitions or partitions
                regrouped[node.topic.get_topic_name()] = partitions
            if isinstance(node, Regroup | ToTopic):
                await self._engine.topics.ensure(node.topic)

    def _check_table(self, plan: StagePlan, table: Table | None, partitions: int) -> None:
        if table is None:
            return
        has = table.spec.partitions or self._engine.app.conf.topic_partitions
        if has != partitions:
            msg = (
                f"Pipeline {plan.name} has {partitions} partitions where it joins table "
                f"{table.name}, which has {has}"
            )
            raise PartitionMismatchError(
                msg, hint=f"Declare the table with partitions={partitions}, or use group_by"
            )


def claim_names(app: App, owners: dict[str, str]) -> None:
    """Note the stages of all pipelines, and the topics between them; ``owners`` have names already.

    Raises:
        ConfigError: Two would have one name, or a pipeline cannot run as it is declared.
    """
    for pipeline in app.pipelines.values():
        for plan in pipeline.stages():
            if plan.name in app.agents:
                msg = f"Pipeline {plan.name} has the name of an agent"
                raise ConfigError(msg, hint="Both keep positions under it: rename one")
            for name in (f"stage {plan.name}", *map("topic {}".format, _regrouped(plan))):
                claim(owners, name, f"Pipeline {pipeline.name}")


def _regrouped(plan: StagePlan) -> list[str]:
    nodes = [unit.node for unit in plan.units]
    return [node.topic.get_topic_name() for node in nodes if isinstance(node, Regroup)]


def _tables(plan: StagePlan) -> list[Table]:
    nodes = [unit.node for unit in plan.units]
    found = [node.table for node in nodes if isinstance(node, Stateful | ToTable)]
    return [table for table in found if table is not None]
