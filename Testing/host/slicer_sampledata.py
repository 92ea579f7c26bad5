"""The module SampleData, for tests of a registration: keeps the sources, runs custom downloaders, fetches nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class SampleDataSource:
    """Texts, or lists of the same length for a data set of several files; anything else is refused as in Slicer."""

    def __init__(
        self,
        sampleName: str | None = None,
        uris: Any = None,
        fileNames: Any = None,
        nodeNames: Any = None,
        customDownloader: Callable[[SampleDataSource], Any] | None = None,
        thumbnailFileName: str | None = None,
        loadFileTypes: Any = None,
        loadFiles: Any = None,
        loadFileProperties: Any = None,
        checksums: Any = None,
    ):
        self.sampleName, self.customDownloader, self.thumbnailFileName = sampleName, customDownloader, thumbnailFileName
        self.uris, self.fileNames, self.nodeNames = _as_list(uris), _as_list(fileNames), _as_list(nodeNames)
        if not len(self.uris) == len(self.fileNames) == len(self.nodeNames):
            raise ValueError(f"{sampleName}: uris, fileNames and nodeNames must have the same length")


class SampleDataLogic:
    sources: dict[str, list[SampleDataSource]] = {}  # noqa: RUF012 - one registry for the application

    @staticmethod
    def registerCustomSampleDataSource(category: str = "Custom", **fields: Any) -> None:
        SampleDataLogic.sources.setdefault(category, []).append(SampleDataSource(**fields))

    @staticmethod
    def sourceForSampleName(sampleName: str) -> SampleDataSource | None:
        return next((s for sources in SampleDataLogic.sources.values() for s in sources if s.sampleName == sampleName), None)

    def downloadFromSource(self, source: SampleDataSource) -> Any:
        if source.customDownloader is None:
            raise RuntimeError(f"{source.sampleName}: the test host downloads nothing")
        return source.customDownloader(source)


def _as_list(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"must be a text or a list of texts, got {value!r}")
    return list(value)
