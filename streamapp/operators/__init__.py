"""Steps of a pipeline: pure state machines over rows; they know no task, broker or clock."""
