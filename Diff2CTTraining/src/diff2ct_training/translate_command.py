"""`diff2ct translate`, without the command line: X-ray files in, the same X-rays in another style out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from diff2ct.assumptions import FrameNotStatedError, ViewNotStatedError
from diff2ct.image_file import suffix_of
from diff2ct.process import check_device
from diff2ct.radiograph import Radiograph, read_radiograph, write_radiograph
from diff2ct.told import told
from diff2ct.translator import load_translator, translate
from diff2ct_training.outputs import output_folder

FORMATS = ("dcm", "png", "nrrd", "npy")


@dataclass(frozen=True, kw_only=True)
class TranslationRequest:
    """xrays: files that `read_radiograph` reads. checkpoint: a translator. output: folder for files of the same names.

    view, frame: of all X-rays, for files that do not tell. format: one of FORMATS; all keep geometry, mask and side.
    """

    xrays: tuple[Path, ...]
    checkpoint: Path
    output: Path
    view: str | None = None
    frame: int | None = None
    format: str = "dcm"
    device: str = "cpu"
    overwrite: bool = False


@dataclass(frozen=True)
class TranslationReport:
    """files: one per X-ray, in their order. warnings: sentences about reading and translating."""

    files: list[Path]
    warnings: list[str]


def translate_files(request: TranslationRequest, on_xray: Callable[[], None] | None = None) -> TranslationReport:
    """Translate all X-rays. Nothing is read before it is sure that nothing would be written over unasked."""
    if request.format not in FORMATS:
        raise ValueError(f"--format: got {request.format!r}, accepted are {', '.join(FORMATS)}")
    names = [f"{path.name.removesuffix(suffix_of(path)) or path.name}.{request.format}" for path in request.xrays]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"xrays: {names.count(name)} files would be written as {name}; translate them one by one")
    check_device(request.device)
    translator = load_translator(request.checkpoint, device=request.device)
    folder = output_folder(request.output, names, overwrite=request.overwrite)
    report = TranslationReport([], [])
    for path, name in zip(request.xrays, names, strict=True):
        translated = translate(_read(path, request), translator)
        write_radiograph(translated, folder / name, overwrite=request.overwrite)
        report.files.append(folder / name)
        films = told([translated])
        report.warnings.extend(films.warnings + films.doubts)
        if on_xray is not None:
            on_xray()
    return report


def _read(path: Path, request: TranslationRequest) -> Radiograph:
    """The X-ray; where its view or frame is not known, the error names the option that tells it."""
    try:
        return read_radiograph(path, view=request.view, frame=request.frame)
    except ViewNotStatedError:
        raise ValueError(f"{path.name}: the file does not tell the view; say it with --view, AP, PA, LL or RL") from None
    except FrameNotStatedError as error:
        raise ValueError(f"{path.name}: has {error.count} frames; say which with --frame, 0 to {error.count - 1}") from None
