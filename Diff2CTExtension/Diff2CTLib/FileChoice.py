"""A combo box of files, shown by their names; its first entry is the choice without a file, whose path is empty."""

from pathlib import Path


class FileChoice:
    """comboBox: without entries. withoutFile: the words of the first entry. onChosen(path) is called when the user chooses."""

    def __init__(self, comboBox, withoutFile, onChosen):
        self._comboBox, self._withoutFile, self._onChosen = comboBox, withoutFile, onChosen
        self._paths = []
        self._isFilling = False
        comboBox.connect("currentIndexChanged(int)", self._onIndex)

    def show(self, paths, chosen, toolTip):
        """Offer `paths` and the `chosen` one, which is shown."""
        paths = ["", *paths]
        if chosen not in paths:
            paths.append(chosen)
        self._isFilling = True
        try:
            if paths != self._paths or self._comboBox.count != len(paths):
                self._comboBox.clear()
                self._comboBox.addItems([self._withoutFile, *(Path(path).name for path in paths[1:])])
                self._paths = paths
            self._comboBox.currentIndex = paths.index(chosen)
            self._comboBox.toolTip = chosen or toolTip
        finally:
            self._isFilling = False

    def _onIndex(self, index):
        if not self._isFilling and 0 <= index < len(self._paths):
            self._onChosen(self._paths[index])
