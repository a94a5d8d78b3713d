"""The cases of a bag workflow."""

from __future__ import annotations

from domains.medical.bags.settings import ArraysData, BagWorkflow
from pipelines.cases import CaseTable
from pipelines.casetables import read_table
from pipelines.errors import DataError

__all__ = ["read_cases"]


def read_cases(config: BagWorkflow) -> CaseTable:
    """The cases that `data` names. Raises `DataError`."""
    if isinstance(config.data, ArraysData):
        from domains.medical.bags.arrays import array_cases

        return array_cases(config.data.file)
    table = read_table(config.data)
    if not any({"bag", "image"} & set(case.paths) for case in table):
        raise DataError(
            "the table names no bags",
            hint="Say where they are: data.paths={bag: 'features/{case_id}.h5'}, or {image: 'cores/{case_id}.jpg'}.",
        )
    return table
