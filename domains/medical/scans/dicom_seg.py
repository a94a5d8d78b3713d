"""Label maps as DICOM SEG objects that point to the images they were drawn on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domains.medical.scans.labels import checked_labels
from domains.medical.scans.outputs import OUTPUT_MARK
from domains.medical.scans.quiet import quiet
from domains.medical.scans.scan import Scan

__all__ = ["can_be_dicom_seg", "write_dicom_seg"]

# What the standard demands of an image to be referred to, and old or anonymised files leave out.
_MAY_BE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
)  # fmt: skip


def can_be_dicom_seg(scan: Scan) -> bool:
    """Whether a scan came from DICOM and has a place in the patient, which a SEG object needs."""
    return scan.source.kind == "dicom" and not scan.is_2d


def write_dicom_seg(
    scan: Scan,
    labels: NDArray[np.integer],
    path: Path,
    classes: Sequence[str],
    *,
    algorithm_name: str = "Pulvinar",
    algorithm_version: str = "0",
) -> None:
    """Writes a binary SEG, one segment for each class, with frames only where there is something.

    The file belongs beside the images it refers to: like them it holds the patient's name and identifiers.

    Args:
        scan: As read from a DICOM series; its files must still be there.
        labels: `(columns, rows, slices)`, whole numbers from 0 to `len(classes)`.
        path: The `.dcm` file.
        classes: Names of labels 1, 2, ….
        algorithm_name: Who segmented; at most 64 characters are kept.
        algorithm_version: And which version.

    Raises:
        ValueError: If the scan is not of DICOM slices, or labels do not fit it.
    """
    import highdicom
    from pydicom.uid import generate_uid

    if not can_be_dicom_seg(scan):
        raise ValueError("a DICOM SEG needs a scan that was read from DICOM slices with positions")
    values = checked_labels(scan, labels, classes)
    with quiet():
        sources = [_source(file) for file in scan.source.paths]
        # The same labels on the same images are the same object, whenever it is written.
        identity = [sources[0].SOPInstanceUID, hashlib.sha256(values.tobytes()).hexdigest(), algorithm_version]
        segmentation = highdicom.seg.Segmentation(
            source_images=sources,
            pixel_array=_frames(values, scan, sources),
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[
                _describe(number, name, algorithm_name, algorithm_version)
                for number, name in enumerate(classes, start=1)
            ],
            series_instance_uid=generate_uid(entropy_srcs=["series", *identity]),
            series_number=int(sources[0].get("SeriesNumber") or 0) % 10_000 + 9000,
            sop_instance_uid=generate_uid(entropy_srcs=["instance", *identity]),
            instance_number=1,
            manufacturer=OUTPUT_MARK,
            manufacturer_model_name=algorithm_name[:64],
            software_versions=algorithm_version[:64],
            device_serial_number="0",
            # A SEG without any frame is no valid object; nothing found is then told by empty frames.
            omit_empty_frames=bool(values.any()),
            series_description="Segmentation",
            content_label="SEGMENTATION",
        )
        segmentation.save_as(path)


def _source(path: Path) -> Any:
    """The image's header, with what a reference to it needs."""
    import pydicom
    from pydicom.uid import generate_uid

    dataset = pydicom.dcmread(path, stop_before_pixels=True, force=True)
    for keyword in _MAY_BE_EMPTY:
        if keyword not in dataset:
            setattr(dataset, keyword, "")
    folder = str(path.parent)
    for keyword, entropy in (
        ("StudyInstanceUID", folder),
        ("SeriesInstanceUID", folder),
        ("FrameOfReferenceUID", f"{dataset.get('SeriesInstanceUID') or folder}"),
        ("SOPInstanceUID", str(path)),
    ):
        if not dataset.get(keyword):
            setattr(dataset, keyword, generate_uid(entropy_srcs=[keyword, entropy]))
    if not dataset.get("SOPClassUID"):
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID
    return dataset


def _frames(values: NDArray[np.unsignedinteger], scan: Scan, sources: Sequence[Any]) -> NDArray[np.unsignedinteger]:
    slices = values.transpose(2, 1, 0)  # (slices, rows, columns)
    if len(sources) == len(slices):
        return np.ascontiguousarray(slices)
    # Multi-frame files: one plane for each of their frames, in their order, also for those that are not in the scan.
    planes = np.zeros((int(sources[0].NumberOfFrames), *slices.shape[1:]), dtype=values.dtype)
    for plane, (_, number) in zip(slices, scan.source.frames, strict=True):
        planes[number - 1] = plane
    return planes


def _describe(number: int, name: str, algorithm_name: str, algorithm_version: str) -> Any:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
    from highdicom.sr import CodedConcept

    return SegmentDescription(
        segment_number=number,
        segment_label=name[:64],
        segmented_property_category=CodedConcept("123037004", "SCT", "Anatomical Structure"),
        # A class is whatever the user called it; a private code says so without pretending to know it.
        segmented_property_type=CodedConcept(f"CLASS{number}", "99PULVINAR", name[:64]),
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(
            name=algorithm_name[:64],
            family=CodedConcept("123110", "DCM", "Artificial Intelligence"),
            version=algorithm_version[:64],
        ),
    )
