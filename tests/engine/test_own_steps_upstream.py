"""The parts of datapipe-core that `pipeline/engine/own_steps.py` stands in for, and relies on."""

from __future__ import annotations

import pytest
from datapipe.step.batch_transform import (
    BaseBatchTransformStep,
    BatchTransformStep,
    DatatableBatchTransformStep,
)
from datapipe.step.datatable_transform import DatatableTransformStep
from upstream import digest

# Where one of these digests changes, read what upstream changed, carry over what concerns us, and
# write the new digest here.
STOOD_IN_FOR = {
    BaseBatchTransformStep.run_full: "bebc8bc02aa84c4c",
    BaseBatchTransformStep.process_batch: "107d266d7474bd89",
    BaseBatchTransformStep.store_batch_result: "70334e05231c9136",
    BaseBatchTransformStep.store_batch_err: "7e3a64881bcb4f9d",
    BaseBatchTransformStep._apply_filters_to_run_config: "c506ffd197fa583e",
    BatchTransformStep.process_batch_dts: "0f61e7352c6d1623",
    DatatableBatchTransformStep.process_batch_dts: "bda09ba45490d019",
    DatatableTransformStep.run_full: "b1acebe0af1899f7",
}


@pytest.mark.parametrize("part", STOOD_IN_FOR, ids=lambda part: part.__qualname__)
def test_upstream_is_what_we_stand_in_for(part: object) -> None:
    assert digest(part) == STOOD_IN_FOR[part]
