"""Voxels of the scene -> a file that the service reads, a piece at a time so that a large CT does not block the panel."""

from dataclasses import asdict

import numpy as np
import qt

from Diff2CTLib import SceneBridge, TemporaryFolder

_BYTES_PER_PIECE = 16 << 20


class VolumeFile:
    """The file of one volume node in its own space or in world space, deleted by `remove`."""

    def __init__(self, node, inWorld):
        self._voxels = SceneBridge.voxels(node)
        grid = SceneBridge.gridFromNode(node, inWorld=inWorld)  # may raise an error, so before the folder
        self._folder = TemporaryFolder.make()
        self.path = self._folder / "volume.npy"
        self.description = {"path": str(self.path), **asdict(grid)}

    def write(self):
        """All at once."""
        for _piece in self._pieces():
            pass
        return self.description

    def writeInPieces(self, onDone):
        """onDone("") once written, or with the reason why not; in between the event loop runs."""
        pieces = self._pieces()

        def next_piece():
            try:
                next(pieces)
            except StopIteration:
                onDone("")
            except OSError as error:
                onDone(str(error))
            else:
                qt.QTimer.singleShot(0, next_piece)

        next_piece()

    def remove(self):
        TemporaryFolder.remove(self._folder)

    def _pieces(self):
        count = max(1, _BYTES_PER_PIECE // max(1, self._voxels[0].nbytes))
        header = {
            "descr": np.lib.format.dtype_to_descr(self._voxels.dtype),
            "fortran_order": False,
            "shape": self._voxels.shape,
        }
        with self.path.open("wb") as file:  # not a memory map: a full disk would end Slicer instead of raising an error
            np.lib.format.write_array_header_1_0(file, header)
            for first in range(0, len(self._voxels), count):
                file.write(np.ascontiguousarray(self._voxels[first : first + count]).data)
                yield
