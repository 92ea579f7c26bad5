"""Cases x methods -> results -> report.

Every row says what made it (`made_by`): an evaluation that is repeated, extended or was interrupted computes only what is not
there yet. Cases are rendered one at a time in each process, and only those of which something is missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from diff2ct_training.evaluation.case_runner import BadCase, CaseRunner, CaseTask, Found, Wanted
from diff2ct_training.evaluation.cases import PlannedCase
from diff2ct_training.evaluation.dataset_report import ONE_SAMPLE
from diff2ct_training.evaluation.methods import PlannedMethod
from diff2ct_training.evaluation.report import write_report
from diff2ct_training.evaluation.results import TRUTH, Key, Results, file_of
from diff2ct_training.evaluation.tables import Row
from diff2ct_training.parallel import Failed, run_all
from diff2ct_training.scoring.case_scores import ScoringOptions

VERSION = 4
"""Part of every row's `made_by`. Raise it when a metric, a phantom, the rendering, a baseline or the inference path comes to
give other numbers: rows of another version are computed again."""


def evaluate(
    cases: Sequence[PlannedCase],
    methods: Mapping[str, PlannedMethod],
    output: Path,
    *,
    scoring: ScoringOptions | None = None,
    settings: Sequence[tuple[str, str]] = (),
    afresh: bool = False,
    keep_volumes: bool = False,
    workers: int = 1,
    on_result: Callable[[str, str], None] | None = None,
) -> list[Row]:
    """Run every method on every case and write `per_case.csv` as they come, then all of `write_report` into `output`.

    Rows that `per_case.csv` has already, made by the same case, method and scoring, are kept, unless `afresh`. Rows of other
    cases and methods stay at its end; the report is of these `cases` and `methods` only. A method of several samples has a row
    for their mean and one for the first of them.

    settings: (name, value) lines that say how it was made. keep_volumes: write every reconstruction to
    `output`/volumes/METHOD/CASE.nrrd. workers: processes, each with a case; this one alone writes the results, which are the
    same up to rounding, as sums depend on the number of threads; seconds are those of a machine that is shared.
    on_result: called with case and method after each.

    A case that cannot be rendered, since its file is damaged, is left out and named in the report; ValueError if all are.

    Returns the rows of `cases` and `methods`.
    """
    scoring = scoring or ScoringOptions()
    if len({(case.dataset, case.name) for case in cases}) < len(cases):
        listed = ", ".join(case.name for case in cases)
        raise ValueError(f"cases: got two of the same name among {listed}, accepted is one each")
    if keep_volumes or scoring.predicted_labels:
        _check_names(cases)
    runner = CaseRunner(methods, scoring)
    bad: dict[PlannedCase, str] = {}
    runner.check()
    results = Results(output, afresh=afresh)
    wanted = {case: {name: _wanted(case, name, m, scoring) for name, m in methods.items()} for case in cases}
    keys = [result.key for of_case in wanted.values() for of_method in of_case.values() for result in of_method]
    if not keys:
        raise ValueError(f"cases: got none that {', '.join(methods)} runs on, accepted are CTs with their original voxels")
    _check_files([*keys, *((case.dataset, case.name, TRUTH) for case in cases)])
    tasks = [_missing(case, of_case, results, scoring, keep_volumes) for case, of_case in wanted.items()]

    for case, name, found in _run(runner, tasks, workers):
        if isinstance(found, BadCase):
            bad[case] = str(found)
            found = []
        for one in found:
            results.add_arrays(one.key, one.made_by, one.arrays)
            if one.row is not None:
                results.add(one.key, one.made_by, one.row, one.screws)
        if found:
            results.write(keys)
        if on_result is not None and name != TRUTH:
            on_result(case.name, name)
    if bad and len(bad) == len(cases):
        reasons = "; ".join(f"{case.name}: {reason}" for case, reason in list(bad.items())[:3])
        raise ValueError(f"cases: none of {len(cases)} could be evaluated ({reasons})")
    left_out = {(case.dataset, case.name) for case in bad}
    keys = [key for key in keys if key[:2] not in left_out]
    results.tell_patients({(case.dataset, case.name): case.patient for case in cases})
    results.write(keys)
    write_report(results, keys, [*settings, *(("left out", f"{case.name}: {reason}") for case, reason in bad.items())])
    return results.rows(keys)


def _check_names(cases: Sequence[PlannedCase]) -> None:
    """Volumes and their labels are found by the case's name alone."""
    twice = [name for name, count in Counter(case.name for case in cases).items() if count > 1]
    if twice:
        raise ValueError(
            f"cases: {', '.join(twice)} is in several data sets, accepted is one file of a volume or labels for each"
        )


def _check_files(keys: Sequence[Key]) -> None:
    """ValueError if two results would be kept in one file, also where a disk does not tell capitals from small letters."""
    taken: dict[str, Key] = {}
    for key in keys:
        other = taken.setdefault(str(file_of(key)).lower(), key)
        if other != key:
            one, two = (" of ".join((method, case)) for _, case, method in (other, key))
            raise ValueError(
                f"cases, methods: got {one} and {two}, accepted are names that differ in more than capitals and signs"
            )


def _run(
    runner: CaseRunner, tasks: Sequence[CaseTask], workers: int
) -> Iterator[tuple[PlannedCase, str, list[Found] | BadCase]]:
    """(case, method, what was missing of it); here after each method, with several workers after each case. A case that is bad
    is so for all methods that are left of it."""
    if workers == 1:
        for task in tasks:
            left = [*runner.methods, TRUTH]
            try:
                for name, found in runner.results(task):
                    left.remove(name)
                    yield task.planned, name, found
            except BadCase as bad:
                yield from ((task.planned, name, bad) for name in left)
        return
    to_do = [task for task in tasks if not task.is_done]
    processes = max(1, min(workers, len(to_do)))
    yield from ((task.planned, name, []) for task in tasks if task.is_done for name in runner.methods)
    for task, done in run_all(runner.for_processes(to_do, processes), to_do, workers):
        if isinstance(done, Failed):
            raise ValueError(done.reason)
        if isinstance(done, BadCase):
            yield from ((task.planned, name, done) for name in [*runner.methods, TRUTH])
        else:
            yield from ((task.planned, name, found) for name, found in done)


def _wanted(case: PlannedCase, name: str, method: PlannedMethod, scoring: ScoringOptions) -> list[Wanted]:
    """The rows of one case and method, none if it does not run there."""
    if method.needs_scan and not case.has_scan:
        return []
    variants = {name: False} if method.num_samples == 1 else {name: False, f"{name}{ONE_SAMPLE}": True}
    found = []
    for shown, first in variants.items():
        parts = (
            f"v{VERSION}",
            case.identity,
            method.identity,
            "first sample" if first else "",
            scoring.identity(shown, case.name),
        )
        found.append(Wanted((case.dataset, case.name, shown), "; ".join(filter(None, parts)), first))
    return found


def _missing(
    case: PlannedCase, wanted: Mapping[str, Sequence[Wanted]], results: Results, scoring: ScoringOptions, keep_volumes: bool
) -> CaseTask:
    """What there is to be done for one case."""
    missing = {name: [one for one in ones if not results.has(one.key, one.made_by)] for name, ones in wanted.items()}
    kept = [name for name, ones in wanted.items() if ones and keep_volumes]
    volumes = {name: results.output / "volumes" / name / f"{case.name}.nrrd" for name in kept}
    truth = "; ".join(filter(None, (f"v{VERSION}", case.identity, scoring.inception_identity)))
    return CaseTask(
        planned=case,
        missing=missing,
        volumes={name: path for name, path in volumes.items() if missing[name] or not path.exists()},
        truth=None if results.has_arrays((case.dataset, case.name, TRUTH), truth) else truth,
    )
